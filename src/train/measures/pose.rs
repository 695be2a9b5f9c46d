//! Joints in metres.

use nalgebra::{Matrix3, Vector3};
use ndarray::ArrayView3;

use super::{MeasureError, same_length};

fn checked(
    measure: &'static str,
    truth: &ArrayView3<'_, f64>,
    predicted: &ArrayView3<'_, f64>,
) -> Result<(), MeasureError> {
    let (frames, joints, axes) = truth.dim();
    same_length(measure, "predicted frames", predicted.dim().0, frames)?;
    same_length(measure, "predicted joints", predicted.dim().1, joints)?;
    for found in [axes, predicted.dim().2] {
        same_length(measure, "axes", found, 3)?;
    }
    if truth.is_empty() {
        return Err(MeasureError::Empty { measure });
    }
    for (frame, (truth, predicted)) in truth.outer_iter().zip(predicted.outer_iter()).enumerate() {
        if let Some(number) = truth.iter().chain(predicted).find(|number| !number.is_finite()) {
            let number = number.to_string();
            return Err(MeasureError::Number { measure, number, row: frame, allowed: "finite positions" });
        }
    }
    Ok(())
}

fn joints(frame: ndarray::ArrayView2<'_, f64>) -> Vec<Vector3<f64>> {
    let axis = |row: &ndarray::ArrayView1<'_, f64>, axis: usize| row.get(axis).copied().unwrap_or_default();
    frame.rows().into_iter().map(|row| Vector3::new(axis(&row, 0), axis(&row, 1), axis(&row, 2))).collect()
}

fn mean_distance(a: &[Vector3<f64>], b: &[Vector3<f64>]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).norm()).sum::<f64>() / a.len() as f64
}

/// Mean squared error over coordinates, m², of positions `[frames, joints, 3]`.
///
/// # Errors
/// [`MeasureError`] when shapes differ, there is nothing, or a number is not finite.
pub fn mean_squared_error(
    truth: ArrayView3<'_, f64>,
    predicted: ArrayView3<'_, f64>,
) -> Result<f64, MeasureError> {
    checked("MSE", &truth, &predicted)?;
    let squares = truth.iter().zip(predicted).map(|(a, b)| (a - b) * (a - b));
    Ok(squares.sum::<f64>() / truth.len() as f64)
}

/// MPJPE: mean distance of joints `[frames, joints, 3]` from the true ones, m.
///
/// # Errors
/// [`MeasureError`] when shapes differ, there is nothing, or a number is not finite.
pub fn mpjpe(truth: ArrayView3<'_, f64>, predicted: ArrayView3<'_, f64>) -> Result<f64, MeasureError> {
    checked("MPJPE", &truth, &predicted)?;
    let frames = truth.outer_iter().zip(predicted.outer_iter());
    let distances = frames.map(|(truth, predicted)| mean_distance(&joints(truth), &joints(predicted)));
    Ok(distances.sum::<f64>() / truth.dim().0 as f64)
}

/// PA-MPJPE: the same after each frame's prediction was turned, moved and scaled to lie as near to the truth as it can,
/// without mirroring it.
///
/// # Errors
/// [`MeasureError`] when shapes differ, there is nothing, or a number is not finite.
pub fn pa_mpjpe(truth: ArrayView3<'_, f64>, predicted: ArrayView3<'_, f64>) -> Result<f64, MeasureError> {
    checked("PA-MPJPE", &truth, &predicted)?;
    let frames = truth.outer_iter().zip(predicted.outer_iter());
    let distances = frames.map(|(truth, predicted)| {
        let truth = joints(truth);
        mean_distance(&truth, &aligned(&truth, &joints(predicted)))
    });
    Ok(distances.sum::<f64>() / truth.dim().0 as f64)
}

/// s·R·(p − p̄) + t̄ with the rotation R and scale s of least squares (Umeyama, PAMI 1991).
fn aligned(truth: &[Vector3<f64>], predicted: &[Vector3<f64>]) -> Vec<Vector3<f64>> {
    let centre = |points: &[Vector3<f64>]| points.iter().sum::<Vector3<f64>>() / points.len() as f64;
    let (to, from) = (centre(truth), centre(predicted));
    let pairs = || truth.iter().zip(predicted).map(|(t, p)| (t - to, p - from));
    let covariance: Matrix3<f64> = pairs().map(|(t, p)| t * p.transpose()).sum();
    let spread: f64 = pairs().map(|(_, p)| p.norm_squared()).sum();
    let svd = covariance.svd(true, true);
    // A prediction that is one point cannot be turned or scaled.
    let (Some(u), Some(v_t), true) = (svd.u, svd.v_t, spread > 0.0) else {
        return vec![to; truth.len()];
    };
    let mut signs = Vector3::repeat(1.0);
    if (u.determinant() * v_t.determinant()) < 0.0 {
        // Mirrored: turn the least axis back.
        signs[svd.singular_values.imin()] = -1.0;
    }
    let rotation = u * Matrix3::from_diagonal(&signs) * v_t;
    let scale = svd.singular_values.dot(&signs) / spread;
    predicted.iter().map(|p| rotation * (p - from) * scale + to).collect()
}

#[cfg(test)]
mod tests {
    use nalgebra::Rotation3;
    use ndarray::Array3;
    use proptest::prelude::*;

    use super::*;

    fn pose() -> impl Strategy<Value = Vec<[f64; 3]>> {
        proptest::collection::vec(proptest::array::uniform3(-1.0..1.0f64), 6)
    }

    fn array(joints: &[Vector3<f64>]) -> Array3<f64> {
        Array3::from_shape_fn((1, joints.len(), 3), |(_, joint, axis)| joints[joint][axis])
    }

    proptest! {
        #[test]
        fn turning_moving_and_scaling_cost_nothing(
            pose in pose(),
            angles in proptest::array::uniform3(-3.0..3.0f64),
            shift in proptest::array::uniform3(-5.0..5.0f64),
            scale in 0.1..10.0f64,
        ) {
            let truth: Vec<Vector3<f64>> = pose.into_iter().map(Vector3::from).collect();
            let turn = Rotation3::from_euler_angles(angles[0], angles[1], angles[2]);
            let moved: Vec<Vector3<f64>> =
                truth.iter().map(|p| turn * p * scale + Vector3::from(shift)).collect();
            let found = pa_mpjpe(array(&truth).view(), array(&moved).view()).unwrap();
            prop_assert!(found < 1e-9, "{}", found);
        }

        #[test]
        fn it_squares_no_worse_than_doing_nothing(a in pose(), b in pose()) {
            // Least squares: the sum of squares can only fall.
            let (a, b): (Vec<_>, Vec<_>) =
                (a.into_iter().map(Vector3::from).collect(), b.into_iter().map(Vector3::from).collect());
            let squares = |b: &[Vector3<f64>]| a.iter().zip(b).map(|(a, b)| (a - b).norm_squared()).sum::<f64>();
            prop_assert!(squares(&aligned(&a, &b)) <= squares(&b) + 1e-9);
        }
    }

    #[test]
    fn a_mirrored_pose_is_not_the_same_pose() {
        let truth: Vec<Vector3<f64>> = [[0., 0., 0.], [1., 0., 0.], [0., 2., 0.], [0., 0., 3.], [1., 1., 1.]]
            .into_iter()
            .map(Vector3::from)
            .collect();
        let mirrored: Vec<Vector3<f64>> = truth.iter().map(|p| Vector3::new(-p.x, p.y, p.z)).collect();
        assert!(pa_mpjpe(array(&truth).view(), array(&mirrored).view()).unwrap() > 0.1);
    }

    #[test]
    fn distances_by_hand() {
        let truth = Array3::zeros((1, 2, 3));
        let mut predicted = truth.clone();
        predicted[[0, 0, 0]] = 3.0;
        predicted[[0, 0, 1]] = 4.0;
        assert_eq!(mpjpe(truth.view(), predicted.view()), Ok(2.5));
        assert_eq!(mean_squared_error(truth.view(), predicted.view()), Ok(25.0 / 6.0));
        let short = Array3::zeros((1, 1, 3));
        let error = mpjpe(truth.view(), short.view()).unwrap_err();
        assert_eq!(error.to_string(), "MPJPE: found 1 predicted joints, allowed are 2");
        predicted[[0, 0, 0]] = f64::NAN;
        assert!(pa_mpjpe(truth.view(), predicted.view()).is_err());
        assert!(mpjpe(Array3::zeros((0, 2, 3)).view(), Array3::zeros((0, 2, 3)).view()).is_err());
    }
}
