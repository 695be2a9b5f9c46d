//! One case: comparisons are collected, and what keeps it from going on is one of them.

use std::path::PathBuf;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};

use super::golden::Golden;
use super::{Row, Tolerance};

/// Why a case cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum CaseError {
    #[error("{} cannot be read: {reason}", file.display())]
    File { file: PathBuf, reason: String },
    #[error("{0} is missing")]
    Missing(String),
    #[error("{}", first_line(.0))]
    Tensor(#[from] candle_core::Error),
    #[error(transparent)]
    Train(#[from] crate::train::TrainError),
    #[error(transparent)]
    Measure(#[from] crate::train::measures::MeasureError),
    #[error("{0}")]
    Other(String),
}

/// candle appends a backtrace where one is wanted.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Comparisons of one case.
pub(super) struct Case<'a> {
    pub(super) name: String,
    pub(super) device: &'a Device,
    rows: Vec<Row>,
}

impl<'a> Case<'a> {
    pub(super) const fn new(name: String, device: &'a Device) -> Self {
        Self { name, device, rows: Vec::new() }
    }

    /// Runs a case on its golden file and gives its rows; tensors of the file that it did not look at are misses.
    pub(super) fn on(
        mut self,
        path: &std::path::Path,
        run: impl FnOnce(&mut Self, &Golden) -> Result<(), CaseError>,
    ) -> Vec<Row> {
        match Golden::open(path, self.device) {
            Ok(golden) => {
                let done = run(&mut self, &golden);
                self.finish(done, &[&golden])
            }
            Err(error) => self.finish(Err(error), &[]),
        }
    }

    /// The rows of a case that ended so.
    pub(super) fn finish(mut self, done: Result<(), CaseError>, goldens: &[&Golden]) -> Vec<Row> {
        match done {
            Ok(()) => {
                for name in goldens.iter().flat_map(|golden| golden.unused()) {
                    self.miss(&name, "was compared with nothing");
                }
                if self.rows.is_empty() {
                    self.miss("-", "found nothing to compare");
                }
            }
            // What comes after the failure was not looked at, which the one row says.
            Err(error) => self.miss("-", &error.to_string()),
        }
        self.rows
    }

    /// A comparison that cannot be made.
    pub(super) fn miss(&mut self, tensor: &str, reason: &str) {
        self.rows.push(Row::failed(&self.name, tensor, reason.to_owned()));
    }

    /// What was found against the golden tensor of this name.
    pub(super) fn compare(
        &mut self,
        golden: &Golden,
        name: &str,
        found: &Tensor,
        tolerance: Tolerance,
    ) -> Result<(), CaseError> {
        self.compare_with(name, golden.get(name)?, found, tolerance)
    }

    /// A gradient against the golden one.
    pub(super) fn compare_gradient(
        &mut self,
        golden: &Golden,
        name: &str,
        found: &Tensor,
    ) -> Result<(), CaseError> {
        let tolerance = golden.gradient_tolerance(name)?;
        self.compare(golden, name, found, tolerance)
    }

    /// Every `grad.NAME` of the golden against the gradient of the variable of that name, of the same numbers in the same
    /// order.
    pub(super) fn compare_gradients(
        &mut self,
        golden: &Golden,
        gradients: &GradStore,
        variables: &[(String, Var)],
    ) -> Result<(), CaseError> {
        for name in golden.after("grad.") {
            let full = format!("grad.{name}");
            let variable = variables.iter().find(|(own, _)| *own == name);
            match variable.and_then(|(_, variable)| gradients.get(variable)) {
                Some(found) => {
                    let shape = golden.get(&full)?.shape();
                    let is_packed = found.elem_count() == shape.elem_count();
                    let found = if is_packed { found.reshape(shape)? } else { found.clone() };
                    self.compare_gradient(golden, &full, &found)?;
                }
                None => {
                    golden.get(&full)?;
                    self.miss(&full, "has no gradient here");
                }
            }
        }
        Ok(())
    }

    /// [`Case::compare`] where the golden has it; where it has not, there is nothing to compare.
    pub(super) fn compare_if_there(
        &mut self,
        golden: &Golden,
        name: &str,
        tolerance: Tolerance,
        found: impl FnOnce() -> Result<Tensor, CaseError>,
    ) -> Result<(), CaseError> {
        if golden.has(name) { self.compare(golden, name, &found()?, tolerance) } else { Ok(()) }
    }

    /// What was found against a tensor. One number is one number, whatever its rank.
    pub(super) fn compare_with(
        &mut self,
        name: &str,
        expected: &Tensor,
        found: &Tensor,
        tolerance: Tolerance,
    ) -> Result<(), CaseError> {
        let is_number = expected.elem_count() == 1 && found.elem_count() == 1;
        if expected.dims() != found.dims() && !is_number {
            self.miss(name, &format!("found shape {:?}, expected {:?}", found.dims(), expected.dims()));
            return Ok(());
        }
        let numbers = |tensor: &Tensor| -> Result<Vec<f64>, CaseError> {
            let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
            Ok(tensor.flatten_all()?.to_vec1()?)
        };
        self.numbers(name, &numbers(expected)?, &numbers(found)?, tolerance);
        Ok(())
    }

    /// Numbers against numbers.
    pub(super) fn numbers(&mut self, name: &str, expected: &[f64], found: &[f64], tolerance: Tolerance) {
        if expected.len() != found.len() {
            self.miss(name, &format!("found {} numbers, expected {}", found.len(), expected.len()));
            return;
        }
        if expected.is_empty() {
            self.miss(name, "found no number, expected 1 and more");
            return;
        }
        // f64::max passes over NaN, and a NaN must not pass.
        let worst = |numbers: &mut dyn Iterator<Item = f64>| {
            numbers
                .fold(0.0f64, |worst, x| if x.is_nan() || worst.is_nan() { f64::NAN } else { worst.max(x) })
        };
        let error = worst(&mut expected.iter().zip(found).map(|(a, b)| (a - b).abs()));
        let tolerance = match tolerance {
            Tolerance::Absolute(tolerance) => tolerance,
            Tolerance::Relative(share) => share * worst(&mut expected.iter().map(|x| x.abs())),
        };
        let is_finite = error.is_finite() && tolerance.is_finite();
        self.rows.push(Row {
            case: self.name.clone(),
            tensor: name.to_owned(),
            error: error.is_finite().then_some(error),
            tolerance: tolerance.is_finite().then_some(tolerance),
            pass: is_finite && error <= tolerance,
            reason: (!is_finite).then(|| "a number is not finite".to_owned()),
        });
    }

    /// Integers, all of them the same.
    pub(super) fn integers(&mut self, name: &str, expected: &[i64], found: &[i64]) {
        let floats = |integers: &[i64]| integers.iter().map(|&x| x as f64).collect::<Vec<f64>>();
        self.numbers(name, &floats(expected), &floats(found), super::EXACT);
    }
}
