//! Frames become a *window*: W slots a fixed stride apart.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config;
use crate::frame::{Frame, Window};
use crate::time::Span;

/// Frames kept per slot at most: a reference far faster than the stride must not fill the memory.
const FRAMES_PER_SLOT: usize = 32;
/// Slots at most.
const MAX_SLOTS: usize = 1024;

/// Builds the window of every frame of one unit.
#[derive(Debug)]
pub struct Windower {
    slots: usize,
    stride: Span,
    /// Oldest first, the present frame last.
    frames: VecDeque<Arc<Frame>>,
}

impl Windower {
    /// Windows of `config.window` slots (1 to 1024), `config.stride_ms` apart.
    #[must_use]
    pub fn new(config: &config::Align) -> Self {
        let stride = config::millis(config.stride_ms).clamp(Span::from_millis(1), Span::from_secs(3600));
        Self { slots: config.window.clamp(1, MAX_SLOTS), stride, frames: VecDeque::new() }
    }

    /// The window that ends with `frame`.
    ///
    /// Slot `i` of W stands for the instant `t − (W − 1 − i)·stride` and holds the frame nearest to it, at most half a
    /// stride away (the earlier one of two equally near); a frame exactly between two instants belongs to the earlier one. A
    /// frame after a gap forgets all before it. Frames must come in order of time, as the aligner gives them; one
    /// that does not starts the window again.
    pub fn push(&mut self, frame: Arc<Frame>) -> Window {
        if frame.after_gap || self.frames.back().is_some_and(|last| last.time >= frame.time) {
            self.frames.clear();
        }
        let half = self.stride.half();
        let oldest = frame.time - self.stride * (self.slots as i64 - 1) - half;
        while self.frames.front().is_some_and(|first| first.time <= oldest)
            || self.frames.len() >= self.slots * FRAMES_PER_SLOT
        {
            self.frames.pop_front();
        }
        self.frames.push_back(Arc::clone(&frame));

        let stride = self.stride.as_nanos();
        let mut slots: Vec<Option<Arc<Frame>>> = vec![None; self.slots];
        let mut nearest = i64::MAX;
        let mut filled = usize::MAX;
        for candidate in &self.frames {
            // Whole strides before the present frame, rounded; exactly between two counts to the earlier one.
            let age = (frame.time - candidate.time).as_nanos();
            let back = age.saturating_add(half.as_nanos()).div_euclid(stride);
            let index = usize::try_from(back).ok().and_then(|back| (self.slots - 1).checked_sub(back));
            let Some((index, slot)) = index.and_then(|index| Some((index, slots.get_mut(index)?))) else {
                continue;
            };
            let distance = (age - back * stride).abs();
            if index != filled || distance < nearest {
                *slot = Some(Arc::clone(candidate));
                (filled, nearest) = (index, distance);
            }
        }
        // The present frame is its own slot, whatever lies near it.
        if let Some(last) = slots.last_mut() {
            *last = Some(Arc::clone(&frame));
        }
        Window { slots, frame }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::frame::{CloseReason, FrameReference};
    use crate::sample::UnitId;
    use crate::time::{CaptureTime, Moment};

    fn frame(ms: i64, after_gap: bool) -> Arc<Frame> {
        let time = CaptureTime::from_nanos(ms * 1_000_000);
        Arc::new(Frame {
            unit: UnitId::new("u").unwrap(),
            time,
            sequence: 0,
            reference: FrameReference::Camera,
            sensors: BTreeMap::new(),
            missing_required: Vec::new(),
            ues: BTreeMap::new(),
            ues_known: false,
            after_gap,
            close: CloseReason::Settled,
            opened: Moment::at(time),
            closed: Moment::at(time),
            last_arrival: Moment::at(time),
        })
    }

    fn times(window: &Window) -> Vec<Option<i64>> {
        let ms = |frame: &Arc<Frame>| frame.time.as_nanos() / 1_000_000;
        window.slots.iter().map(|slot| slot.as_ref().map(ms)).collect()
    }

    fn last_of(windower: &mut Windower, frames: &[i64]) -> Vec<Option<i64>> {
        let mut last = Vec::new();
        for &ms in frames {
            last = times(&windower.push(frame(ms, false)));
        }
        last
    }

    fn windower(window: usize) -> Windower {
        Windower::new(&config::Align { window, stride_ms: 100.0, ..config::Align::default() })
    }

    #[test]
    fn each_slot_holds_the_nearest_frame_within_half_a_stride() {
        let mut windows = windower(4);
        assert_eq!(last_of(&mut windows, &[0]), [None, None, None, Some(0)]);
        assert_eq!(last_of(&mut windows, &[80, 130, 210, 300]), [Some(0), Some(80), Some(210), Some(300)]);
        // At 375 the instants are 75, 175, 275 and 375.
        assert_eq!(last_of(&mut windows, &[375]), [Some(80), Some(210), Some(300), Some(375)]);
        assert_eq!(last_of(&mut windows, &[600]), [Some(300), Some(375), None, Some(600)]);
    }

    #[test]
    fn a_frame_between_two_instants_belongs_to_the_earlier_one_only() {
        assert_eq!(last_of(&mut windower(3), &[50, 200]), [Some(50), None, Some(200)]);
        assert_eq!(last_of(&mut windower(3), &[80, 120, 200]), [None, Some(80), Some(200)]);
    }

    #[test]
    fn a_gap_forgets_all_before_it() {
        let mut windows = windower(3);
        last_of(&mut windows, &[0, 100]);
        assert_eq!(times(&windows.push(frame(200, true))), [None, None, Some(200)]);
        assert_eq!(last_of(&mut windows, &[300]), [None, Some(200), Some(300)]);
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut windows = windower(2);
        for step in 0..10_000 {
            let time = CaptureTime::from_nanos(step);
            let mut present = Frame::clone(&frame(0, false));
            present.time = time;
            let window = windows.push(Arc::new(present));
            assert_eq!(window.slots.len(), 2);
            assert_eq!(window.frame.time, time);
        }
        assert_eq!(windows.frames.len(), 2 * FRAMES_PER_SLOT);
        assert_eq!(windower(0).push(frame(0, false)).slots.len(), 1);
    }
}
