//! Encoders against numbers that torchvision, timm and the authors' Point Transformer computed on the same weights.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use mmsense::model::layers::Mode;
use mmsense::model::neighbours::{farthest, nearest};
use mmsense::model::point_transformer::{Hierarchy, PointTransformer};

fn goldens(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/parity").join(folder);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn weights(path: &Path) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors(path), DType::F32, &Device::Cpu)
}

fn farthest_apart(found: &Tensor, golden: &Tensor) -> f32 {
    assert_eq!(found.dims(), golden.dims());
    let apart = (found - golden).unwrap().abs().unwrap().flatten_all().unwrap();
    apart.max(0).unwrap().to_scalar().unwrap()
}

fn positions(tensor: &Tensor) -> Vec<[f32; 3]> {
    tensor.to_vec2::<f32>().unwrap().into_iter().map(|row| [row[0], row[1], row[2]]).collect()
}

fn indices(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_dtype(DType::U32).unwrap().to_vec1().unwrap()
}

#[test]
fn the_point_transformer_is_that_of_its_authors() {
    let Some(folder) = goldens("point") else { return };
    let golden = tensors(&folder.join("postech_enc.golden.safetensors"));
    let network =
        PointTransformer::load(6, &[16, 24], 8, &weights(&folder.join("postech_enc.model.safetensors")))
            .unwrap();
    let all = positions(&golden["xyz"]);
    let ends: Vec<usize> = golden["offset"]
        .to_dtype(DType::U32)
        .unwrap()
        .to_vec1::<u32>()
        .unwrap()
        .iter()
        .map(|&end| end as usize)
        .collect();
    let clouds: Vec<&[[f32; 3]]> =
        std::iter::once(&0).chain(&ends).zip(&ends).map(|(&from, &to)| &all[from..to]).collect();

    let mut within = Vec::new();
    let mut chosen = Vec::new();
    let mut from = 0;
    for cloud in &clouds {
        nearest(cloud, cloud, 8, from, &mut within);
        chosen.extend(farthest(cloud, cloud.len() / 4).into_iter().map(|index| index + from));
        from += cloud.len() as u32;
    }
    assert_eq!(within, indices(&golden["b1.knn_idx"]));
    assert_eq!(chosen, indices(&golden["td2.fps_idx"]));

    let hierarchy = Hierarchy::new(&clouds, 2, |_, before| before / 4, 8, &Device::Cpu).unwrap();
    let input = Tensor::cat(&[&golden["xyz"], &golden["feat"]], 1).unwrap();
    let apart = farthest_apart(&network.forward(&hierarchy, &input, Mode::Infer).unwrap(), &golden["b2.out"]);
    assert!(apart <= 5e-5, "{apart}");
}
