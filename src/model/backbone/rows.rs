//! A pass over rows: (sample, prompt) pairs.

use candle_core::{DType, Device, Result, Tensor};

use super::layer::{KeysValues, Sensors, Tail, Text};
use super::{Backbone, CrossStates, Layer, Prepared};
use crate::model::layers::Mode;

/// Rows sorted by sample, so that all rows of a sample look at its keys in one product.
struct Sorted {
    /// (sample, prompt), sorted.
    rows: Vec<(u32, u32)>,
    /// Where each row that was asked for stands among the sorted ones; `None` where they were sorted.
    places: Option<Vec<u32>>,
    /// The samples whose keys and values are looked at, one per group of rows.
    groups: Vec<u32>,
    per_sample: usize,
}

impl Sorted {
    fn new(asked: &[(u32, u32)]) -> Self {
        let mut order: Vec<u32> = (0..asked.len() as u32).collect();
        order.sort_by_key(|&place| asked.get(place as usize).map(|row| row.0));
        let rows: Vec<(u32, u32)> =
            order.iter().filter_map(|&place| asked.get(place as usize).copied()).collect();
        let places = (!order.is_sorted()).then(|| {
            let mut places = vec![0; order.len()];
            for (sorted, &asked) in order.iter().enumerate() {
                if let Some(place) = places.get_mut(asked as usize) {
                    *place = sorted as u32;
                }
            }
            places
        });
        let of_sample: Vec<&[(u32, u32)]> = rows.chunk_by(|a, b| a.0 == b.0).collect();
        let first = of_sample.first().map_or(1, |rows| rows.len());
        let even = of_sample.iter().all(|rows| rows.len() == first);
        // Samples with unequal numbers of rows: each row has its sample's keys to itself.
        let (groups, per_sample) = if even {
            (of_sample.iter().filter_map(|rows| rows.first()).map(|row| row.0).collect(), first)
        } else {
            (rows.iter().map(|row| row.0).collect(), 1)
        };
        Self { rows, places, groups, per_sample }
    }

    /// The groups' samples among all: `None` where they are all of them, in order.
    fn selection(&self, samples: usize, device: &Device) -> Result<Option<Tensor>> {
        if self.groups.len() == samples && self.groups.iter().enumerate().all(|(a, &b)| a == b as usize) {
            return Ok(None);
        }
        Tensor::from_slice(&self.groups, self.groups.len(), device).map(Some)
    }
}

impl Backbone {
    /// The hidden states of the tapped layers at the last real token of each row, `[rows, hidden]` per tap, in f32 (f64
    /// where the backbone is). That of the backbone's last layer is taken after the final norm, as the reference does.
    ///
    /// `rows` are pairs of a sample of `states` and a prompt of `prepared`, in any order and number.
    ///
    /// # Errors
    /// When there is no row, a row names a sample or a prompt that is not there, or part of the backbone is not held.
    pub fn taps(
        &self,
        prepared: &Prepared,
        states: &CrossStates,
        rows: &[(u32, u32)],
        mode: Mode,
    ) -> Result<Vec<Tensor>> {
        let (samples, prompts) = (states.samples, prepared.prompts.count());
        let fits =
            |&&(sample, prompt): &&(u32, u32)| sample as usize >= samples || prompt as usize >= prompts;
        if let Some(wrong) = rows.iter().find(fits) {
            candle_core::bail!("found row {wrong:?}, allowed are {samples} samples and {prompts} prompts");
        }
        if rows.is_empty() {
            candle_core::bail!("found no rows, allowed are one or more");
        }
        let sorted = Sorted::new(rows);
        let selection = sorted.selection(samples, &self.device)?;
        let select = |x: &Tensor| match &selection {
            Some(selection) => x.index_select(selection, 0),
            None => Ok(x.clone()),
        };
        let sensors = Sensors {
            per_sample: sorted.per_sample,
            mask: states.mask.as_ref().map(select).transpose()?,
            rows: self.row_mask(states, &sorted)?,
        };
        let tail = self.tail(prepared, &sorted)?;
        let of_prompt: Vec<u32> = sorted.rows.iter().map(|row| row.1).collect();
        let of_prompt = Tensor::from_vec(of_prompt, sorted.rows.len(), &self.device)?;
        let mut x = self.prompt_states(prepared, mode)?.index_select(&of_prompt, 0)?; // [R, T, hidden]

        let mut taps = Vec::with_capacity(self.taps.layers().len());
        for number in self.config.prefix()..=self.taps.last() {
            let is_last = number == self.taps.last();
            let wanted = is_last.then_some(&tail);
            x = match self.layers.get(number).and_then(Option::as_ref) {
                Some(Layer::Text(layer)) => layer.forward(&x, &prepared.text, wanted, mode)?,
                Some(Layer::Sensors(layer)) => {
                    let seen = states.of(number)?;
                    let seen = KeysValues { keys: select(&seen.keys)?, values: select(&seen.values)? };
                    layer.forward(&x, &seen, &sensors, wanted, mode)?
                }
                None => candle_core::bail!("layer {number} is not held by this backbone"),
            };
            if self.taps.layers().contains(&number) {
                let own = if is_last { x.clone() } else { tail.of(&x)? }.squeeze(1)?;
                let own = if number + 1 == self.config.layers { self.final_norm(&own)? } else { own };
                let wide = if own.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
                taps.push(own.to_dtype(wide)?);
            }
        }
        let Some(places) = sorted.places else { return Ok(taps) };
        let places = Tensor::from_vec(places, rows.len(), &self.device)?;
        taps.iter().map(|tap| tap.index_select(&places, 0)).collect()
    }

    /// `[R, 1, 1]`: 0 for a row whose sample has no token that counts.
    fn row_mask(&self, states: &CrossStates, sorted: &Sorted) -> Result<Option<Tensor>> {
        let Some(of_sample) = &states.rows else { return Ok(None) };
        let samples: Vec<u32> = sorted.rows.iter().map(|row| row.0).collect();
        let samples = Tensor::from_vec(samples, sorted.rows.len(), &self.device)?;
        of_sample.index_select(&samples, 0)?.reshape((sorted.rows.len(), 1, 1)).map(Some)
    }

    fn tail(&self, prepared: &Prepared, sorted: &Sorted) -> Result<Tail> {
        let count = sorted.rows.len();
        let lasts = sorted.rows.iter().filter_map(|row| prepared.prompts.last(row.1 as usize));
        let lasts: Vec<u32> = lasts.map(|last| last as u32).collect();
        let length = prepared.prompts.longest();
        let places: Vec<u32> = (0u32..).zip(&lasts).map(|(row, last)| row * length as u32 + last).collect();
        let lasts = Tensor::from_vec(lasts, count, &self.device)?;
        // All rows have the same positions, so the tables have one row of them.
        let rotation = prepared.text.rotation.pick(&lasts)?;
        let mask = prepared.text.mask.squeeze(0)?.index_select(&lasts, 0)?.unsqueeze(1)?;
        let places = Tensor::from_vec(places, count, &self.device)?;
        Ok(Tail { places, text: Text { rotation, mask } })
    }
}
