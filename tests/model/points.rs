//! Point encoders against numbers that other codes computed on the same weights, and against themselves.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use mmsense::model::layers::{Mode, Statistics};
use mmsense::model::neighbours::{KdTree, farthest, nearest};
use mmsense::model::parameters::Parameters;
use mmsense::model::point_transformer::qq456cvb::{Classifier, ClassifierConfig, ResidualBlock};
use mmsense::model::point_transformer::{
    Form, Hierarchy, Level, PaperAttention, PointTransformer, PointTransformerConfig, packed,
};
use mmsense::model::seeded::fresh_weights;

/// Gradients with batch norms as in inference.
const EVAL: Mode = Mode::Train { seed: 0, statistics: Statistics::Running };
const BATCH: Mode = Mode::Train { seed: 0, statistics: Statistics::Batch };

/// A file of goldens: of `tests/data`, or of the larger set where that is at hand.
fn file(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found =
        ["tests/data/parity/point", "../shared/parity/point"].map(|folder| root.join(folder).join(name));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: {name} is not there");
    }
    found
}

fn golden(name: &str) -> Option<HashMap<String, Tensor>> {
    Some(candle_core::safetensors::load(file(name)?, &Device::Cpu).unwrap())
}

fn metadata(name: &str) -> HashMap<String, String> {
    let bytes = std::fs::read(file(name).unwrap()).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    metadata.metadata().clone().unwrap()
}

/// The tensors whose name begins with `prefix`, as variables under the rest of it.
fn variables(tensors: &HashMap<String, Tensor>, prefix: &str) -> (VarBuilder<'static>, Parameters) {
    let own = tensors.iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix(prefix)?;
        (tensor.dtype() == DType::F32).then(|| (name.to_owned(), tensor.clone()))
    });
    let source = VarBuilder::from_tensors(own.collect(), DType::F32, &Device::Cpu);
    Parameters::watch(source, |_| true)
}

fn largest(tensor: &Tensor) -> f64 {
    let largest = tensor.to_dtype(DType::F64).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    largest.to_scalar().unwrap()
}

fn apart(found: &Tensor, golden: &Tensor) -> f64 {
    largest(&(found - golden.reshape(found.shape()).unwrap()).unwrap())
}

#[track_caller]
fn agree(name: &str, found: &Tensor, golden: &Tensor) {
    let apart = apart(found, golden);
    assert!(apart <= 1e-5, "{name}: {apart}");
}

/// Within 1e-4 of the largest; `floor` is what a gradient that is 0 but for rounding may come to.
#[track_caller]
fn agree_in_gradient(name: &str, found: &Tensor, golden: &Tensor, floor: f64) {
    let (apart, allowed) = (apart(found, golden), 1e-4 * largest(golden));
    assert!(apart <= allowed.max(floor), "{name}: {apart} of {allowed}");
}

fn indices(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_dtype(DType::U32).unwrap().to_vec1().unwrap()
}

fn points(tensor: &Tensor) -> Vec<[f32; 3]> {
    tensor.to_vec2::<f32>().unwrap().into_iter().map(|row| [row[0], row[1], row[2]]).collect()
}

/// Every gradient of the file, by the name after `grad.`.
fn gradients(golden: &HashMap<String, Tensor>) -> impl Iterator<Item = (&str, &Tensor)> {
    golden.iter().filter_map(|(name, tensor)| Some((name.strip_prefix("grad.")?, tensor)))
}

#[test]
fn the_attention_of_the_paper_is_its_equation() {
    let Some(golden) = golden("paper_eq.safetensors") else { return };
    let (batch, n, inputs) = golden["features"].dims3().unwrap();
    let width = golden["out"].dim(2).unwrap();
    let k = golden["knn_idx"].dim(2).unwrap();
    for cloud in 0..batch {
        let own = |name: &str| golden[name].get(cloud).unwrap();
        let points = points(&own("xyz"));
        let (mut within, mut of_sampled) = (Vec::new(), Vec::new());
        nearest(&points, &points, k, 0, &mut within);
        assert_eq!(within, indices(&own("knn_idx")));
        let sampled = farthest(&points, golden["fps_idx"].dim(1).unwrap());
        assert_eq!(sampled, indices(&own("fps_idx")));
        let sampled: Vec<[f32; 3]> = sampled.iter().map(|&index| points[index as usize]).collect();
        nearest(&sampled, &points, k, 0, &mut of_sampled);
        assert_eq!(of_sampled, indices(&own("fps_knn_idx")));
    }
    let (vb, parameters) = variables(&golden, "w.");
    let attention = PaperAttention::load(inputs, width, &vb).unwrap();
    let features = Var::from_tensor(&golden["features"].flatten_to(1).unwrap()).unwrap();
    let positions = Var::from_tensor(&golden["xyz"].flatten_to(1).unwrap()).unwrap();
    let within = packed(&golden["knn_idx"], n).unwrap();
    let level = Level::new(positions.as_tensor().clone(), within, None).unwrap();
    let out = attention.forward(&features, &level).unwrap();
    agree("out", &out, &golden["out"]);
    let loss = (out * golden["probe"].flatten_to(1).unwrap()).unwrap().sum_all().unwrap();
    let store = loss.backward().unwrap();
    let trained: HashMap<String, Var> = parameters.trained().into_iter().collect();
    for (name, wanted) in gradients(&golden) {
        let found = match name {
            "features" => store.get(&features),
            "xyz" => store.get(&positions),
            _ => store.get(&trained[name.strip_prefix("w.").unwrap()]),
        };
        // A bias of all logits changes no softmax.
        let floor = if name == "w.gamma.2.bias" { 1e-5 } else { 0.0 };
        agree_in_gradient(name, found.unwrap(), wanted, floor);
    }
}

fn postech(width: &[usize], share: usize) -> PointTransformerConfig {
    PointTransformerConfig {
        magnify: 1,
        points: vec![],
        widths: width.to_vec(),
        neighbours: 0,
        share,
        attention: Form::Postech,
    }
}

#[test]
fn the_point_transformer_is_that_of_its_authors() {
    let Some(golden) = golden("postech_enc.golden.safetensors") else { return };
    let weights = self::golden("postech_enc.model.safetensors").unwrap();
    let numbers = metadata("postech_enc.golden.safetensors");
    let number = |name: &str| numbers[name].parse::<usize>().unwrap();
    let (stride, share, k) = (number("stride"), number("share_planes"), number("nsample"));
    let widths = ["td1.out", "td2.out"].map(|name| golden[name].dim(1).unwrap());
    let all = points(&golden["xyz"]);
    let ends: Vec<usize> = indices(&golden["offset"]).iter().map(|&end| end as usize).collect();
    let clouds: Vec<&[[f32; 3]]> =
        std::iter::once(&0).chain(&ends).zip(&ends).map(|(&from, &to)| &all[from..to]).collect();
    let hierarchy = Hierarchy::new(&clouds, 2, |_, before| before / stride, k, &Device::Cpu).unwrap();

    let [first, second] = hierarchy.levels() else { panic!() };
    assert_eq!(indices(first.within()), indices(&golden["b1.knn_idx"]));
    assert_eq!(indices(second.before().unwrap()), indices(&golden["td2.knn_idx"]));
    assert_eq!(apart(second.positions(), &golden["td2.xyz"]), 0.0);
    let mut chosen = Vec::new();
    let mut from = 0;
    for cloud in &clouds {
        chosen.extend(farthest(cloud, cloud.len() / stride).into_iter().map(|index| index + from));
        from += cloud.len() as u32;
    }
    assert_eq!(chosen, indices(&golden["td2.fps_idx"]));

    let input = Tensor::cat(&[&golden["xyz"], &golden["feat"]], 1).unwrap();
    let inputs = input.dim(1).unwrap();
    // Fused.
    let vb = VarBuilder::from_tensors(weights.clone(), DType::F32, &Device::Cpu);
    let network = PointTransformer::load(inputs, &postech(&widths, share), &vb).unwrap();
    agree("fused", &network.forward(&hierarchy, &input, Mode::Infer).unwrap(), &golden["b2.out"]);

    // Step by step, with gradients.
    let (vb, parameters) = variables(&weights, "");
    let network = PointTransformer::load(inputs, &postech(&widths, share), &vb).unwrap();
    let features = Var::from_tensor(&golden["feat"]).unwrap();
    let input = Tensor::cat(&[&golden["xyz"], features.as_tensor()], 1).unwrap();
    let stages = network.stages(&hierarchy, &input, EVAL).unwrap();
    for (name, found) in [
        ("td1.out", &stages[0].down),
        ("b1.layer_in", &stages[0].block.entered),
        ("b1.layer_out", &stages[0].block.attended),
        ("b1.out", &stages[0].block.out),
        ("td2.out", &stages[1].down),
        ("b2.out", &stages[1].block.out),
    ] {
        agree(name, found, &golden[name]);
    }
    let loss = (&stages[1].block.out * &golden["probe"]).unwrap().sum_all().unwrap();
    let store = loss.backward().unwrap();
    let trained: HashMap<String, Var> = parameters.trained().into_iter().collect();
    for (name, wanted) in gradients(&golden) {
        let variable = if name == "feat" { &features } else { &trained[name] };
        agree_in_gradient(name, store.get(variable).unwrap(), wanted, 0.0);
    }
}

#[test]
fn the_block_of_qq456cvb_is_its_own() {
    let Some(golden) = golden("qq456cvb_block.safetensors") else { return };
    let (batch, n, inputs) = golden["features"].dims3().unwrap();
    let width = golden["w.fc1.weight"].dim(0).unwrap();
    let k = golden["knn_idx"].dim(2).unwrap();
    let mut within = Vec::new();
    for cloud in 0..batch {
        let points = points(&golden["xyz"].get(cloud).unwrap());
        nearest(&points, &points, k, 0, &mut within);
    }
    assert_eq!(within, indices(&golden["knn_idx"]));
    let (vb, parameters) = variables(&golden, "w.");
    let block = ResidualBlock::load(inputs, width, &vb).unwrap();
    let features = Var::from_tensor(&golden["features"].flatten_to(1).unwrap()).unwrap();
    let within = packed(&golden["knn_idx"], n).unwrap();
    let level = Level::new(golden["xyz"].flatten_to(1).unwrap(), within, None).unwrap();
    let (output, weights) = block.attend(&features, &level).unwrap();
    agree("out", &output.out, &golden["out"]);
    for cloud in 0..batch {
        let found = weights.get(cloud * n).unwrap();
        agree("attn.point0", &found, &golden["attn.point0"].get(cloud).unwrap());
    }
    let loss = (output.out * golden["probe"].flatten_to(1).unwrap()).unwrap().sum_all().unwrap();
    let store = loss.backward().unwrap();
    let trained: HashMap<String, Var> = parameters.trained().into_iter().collect();
    for (name, wanted) in gradients(&golden) {
        let variable = name.strip_prefix("w.").map_or(&features, |name| &trained[name]);
        agree_in_gradient(name, store.get(variable).unwrap(), wanted, 0.0);
    }
}

#[test]
fn the_classifier_of_qq456cvb_is_its_own() {
    let Some(golden) = golden("qq456cvb_cls.golden.safetensors") else { return };
    let weights = self::golden("qq456cvb_cls.model.safetensors").unwrap();
    let numbers = metadata("qq456cvb_cls.golden.safetensors");
    let number = |name: &str| numbers[name].parse::<usize>().unwrap();
    let config = ClassifierConfig {
        points: number("num_point"),
        inputs: number("input_dim"),
        width: number("transformer_dim"),
        neighbours: number("nneighbor"),
        blocks: number("nblocks"),
        classes: number("num_class"),
        stem: weights["backbone.fc1.0.weight"].dim(0).unwrap(),
        head: ["fc2.0.weight", "fc2.2.weight"].map(|name| weights[name].dim(0).unwrap()),
    };
    let (vb, _) = variables(&weights, "");
    let network = Classifier::load(&config, &vb).unwrap();
    let sampled = |stage: usize| golden[&format!("stage{stage}.fps_idx")].to_dtype(DType::U32).unwrap();
    let start = |stage, cloud| indices(&sampled(stage).get(cloud).unwrap())[0];
    let positions = golden["input"].narrow(2, 0, 3).unwrap().contiguous().unwrap();
    let (hierarchy, chosen) = network.hierarchy(&positions, start).unwrap();
    for (stage, chosen) in chosen.iter().enumerate() {
        assert_eq!(indices(chosen), indices(&sampled(stage)), "stage {stage}");
        let level = &hierarchy.levels()[stage + 1];
        assert_eq!(apart(level.positions(), &golden[&format!("stage{stage}.xyz")]), 0.0);
    }
    let features = golden["input"].flatten_to(1).unwrap();
    let found = network.forward(&hierarchy, &features, Mode::Infer).unwrap();
    for (stage, (down, out)) in found.stages.iter().enumerate() {
        agree("td_out", down, &golden[&format!("stage{stage}.td_out")]);
        agree("out", out, &golden[&format!("stage{stage}.out")]);
    }
    agree("pooled", &found.pooled, &golden["pooled"]);
    agree("logits", &found.logits, &golden["logits"]);
}

/// Numbers in 0…1 that fill space evenly.
fn spread(index: usize, axis: usize) -> f32 {
    let steps = [0.754_877_7, 0.569_840_3, 0.324_717_95, 0.618_034, 0.414_213_6, 0.302_775_6, 0.236_068];
    (index as f64 * steps[axis % 7] + axis as f64 * 0.1).fract() as f32
}

fn scene(points: usize, first: usize) -> Vec<[f32; 3]> {
    let point = |i: usize| [2.0 * spread(i, 0) - 1.0, 2.0 * spread(i, 1) - 1.0, 0.3 * spread(i, 2)];
    (first..first + points).map(point).collect()
}

/// Positions and some more numbers of clouds of these sizes.
fn batch(sizes: &[usize], inputs: usize) -> (Vec<Vec<[f32; 3]>>, Tensor) {
    let clouds: Vec<Vec<[f32; 3]>> =
        sizes.iter().enumerate().map(|(cloud, &points)| scene(points, 1000 * cloud)).collect();
    let row = |(index, point): (usize, &[f32; 3])| -> Vec<f32> {
        (0..inputs).map(|i| point.get(i).copied().unwrap_or_else(|| spread(index, i))).collect()
    };
    let features: Vec<f32> = clouds.iter().flatten().enumerate().flat_map(row).collect();
    let rows = features.len() / inputs;
    (clouds, Tensor::from_vec(features, (rows, inputs), &Device::Cpu).unwrap())
}

fn hierarchy(clouds: &[Vec<[f32; 3]>], levels: usize, k: usize) -> Hierarchy {
    let clouds: Vec<&[[f32; 3]]> = clouds.iter().map(Vec::as_slice).collect();
    Hierarchy::new(&clouds, levels, |_, before| before / 4, k, &Device::Cpu).unwrap()
}

/// Fresh weights whose norms have statistics that are not those of a fresh network.
fn lived_in(inputs: usize, config: &PointTransformerConfig, seed: u64) -> (VarBuilder<'static>, Parameters) {
    let (vb, parameters) = Parameters::watch(fresh_weights(seed, &Device::Cpu), |_| true);
    PointTransformer::load(inputs, config, &vb).unwrap();
    let norms: BTreeSet<String> = parameters
        .statistics()
        .iter()
        .filter_map(|(name, _)| Some(name.strip_suffix(".running_mean")?.to_owned()))
        .collect();
    for (place, (name, var)) in parameters.statistics().into_iter().chain(parameters.trained()).enumerate() {
        let Some((norm, part)) = name.rsplit_once('.').filter(|(norm, _)| norms.contains(*norm)) else {
            continue;
        };
        // Scales around 1, shifts around 0.
        let (scale, shift) = if ["weight", "running_var"].contains(&part) { (1.0, 1.0) } else { (0.5, 0.0) };
        let numbers =
            (0..var.elem_count()).map(|i| shift + scale * (spread(i + place + norm.len(), 3) - 0.5));
        let numbers = Tensor::from_vec(numbers.collect::<Vec<f32>>(), var.shape(), &Device::Cpu);
        var.set(&numbers.unwrap()).unwrap();
    }
    (vb, parameters)
}

fn frozen(parameters: &Parameters) -> VarBuilder<'static> {
    let all = parameters.statistics().into_iter().chain(parameters.trained());
    let tensors = all.map(|(name, var)| (name, var.as_tensor().copy().unwrap().detach()));
    VarBuilder::from_tensors(tensors.collect(), DType::F32, &Device::Cpu)
}

#[test]
fn the_fused_encoder_gives_what_the_plain_one_gives() {
    for (widths, share, k, sizes) in [
        (vec![32, 64, 128, 256, 512], 8, 16, vec![1100, 3]),
        (vec![16, 24, 40], 4, 8, vec![1, 130, 61]),
        (vec![32, 64, 128], 8, 16, vec![128]),
        (vec![6], 2, 3, vec![50]),
        (vec![16, 1024], 16, 5, vec![40]),
        // So many points that they are laid out in space, on the last level too.
        (vec![8, 16], 4, 8, vec![4200, 20]),
    ] {
        let config = postech(&widths, share);
        let (_, parameters) = lived_in(7, &config, 5);
        let network = PointTransformer::load(7, &config, &frozen(&parameters)).unwrap();
        let (clouds, features) = batch(&sizes, 7);
        let hierarchy = hierarchy(&clouds, widths.len(), k);
        let fused = network.forward(&hierarchy, &features, Mode::Infer).unwrap();
        let plain = network.stages(&hierarchy, &features, Mode::Infer).unwrap().pop().unwrap().block.out;
        let (apart, most) = (apart(&fused, &plain), largest(&plain));
        assert!(most > 0.1, "{widths:?}: {most}");
        assert!(apart <= 1e-5 * most.max(1.0), "{widths:?}: {apart} of {most}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let config = postech(&[32, 64, 128], 8);
    let network = PointTransformer::load(7, &config, &fresh_weights(3, &Device::Cpu)).unwrap();
    let (clouds, features) = batch(&[2000, 300], 7);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let run = || network.forward(&hierarchy(&clouds, 3, 16), &features, Mode::Infer).unwrap();
        let numbers: Vec<f32> = pool.install(run).flatten_all().unwrap().to_vec1().unwrap();
        numbers.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn a_gradient_is_never_lost_to_the_fused_encoder() {
    let network = PointTransformer::load(7, &postech(&[16], 4), &fresh_weights(3, &Device::Cpu)).unwrap();
    let (clouds, features) = batch(&[40], 7);
    let features = Var::from_tensor(&features).unwrap();
    let out = network.forward(&hierarchy(&clouds, 1, 8), &features, Mode::Infer).unwrap();
    let store = out.sum_all().unwrap().backward().unwrap();
    assert!(largest(store.get(&features).unwrap()) > 0.0);
}

#[test]
fn every_trainable_tensor_gets_a_gradient() {
    for attention in [Form::Postech, Form::Paper, Form::Qq456cvb] {
        let config = PointTransformerConfig { attention, ..postech(&[16, 24, 32], 4) };
        let (vb, parameters) = lived_in(7, &config, 11);
        let network = PointTransformer::load(7, &config, &vb).unwrap();
        let (clouds, features) = batch(&[150, 90], 7);
        let hierarchy = hierarchy(&clouds, 3, 8);
        // Norms that know their numbers: rectifiers after them are then on for some points and off for others.
        for _ in 0..40 {
            network.forward(&hierarchy, &features, BATCH).unwrap();
        }
        for mode in [EVAL, BATCH] {
            let out = network.forward(&hierarchy, &features, mode).unwrap();
            let store = out.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            for (name, var) in parameters.trained() {
                let found = largest(store.get(&var).unwrap_or_else(|| panic!("{attention:?}: no {name}")));
                // What only shifts all that a softmax or a norm over the batch looks at changes nothing.
                let normed = mode == BATCH
                    && ["linear_q.bias", "linear_k.bias", "linear_p.0.bias", "linear_w.2.bias"]
                        .iter()
                        .any(|ending| name.ends_with(ending));
                let shift = ["linear_w.5.bias", "gamma.2.bias"].iter().any(|ending| name.ends_with(ending));
                if shift || normed {
                    assert!(found < 1e-2, "{attention:?} {mode:?} {name}: {found}");
                } else {
                    assert!(found.is_finite() && found > 1e-6, "{attention:?} {mode:?} {name}: {found}");
                }
            }
        }
    }
}

#[test]
fn gradients_are_differences() {
    let device = Device::Cpu;
    for attention in [Form::Postech, Form::Paper, Form::Qq456cvb] {
        let config = PointTransformerConfig { attention, ..postech(&[8, 12], 4) };
        let (_, parameters) = lived_in(5, &config, 2);
        let wide = parameters.statistics().into_iter().chain(parameters.trained());
        let wide = wide.map(|(name, var)| (name, var.as_tensor().to_dtype(DType::F64).unwrap().detach()));
        let source = VarBuilder::from_tensors(wide.collect(), DType::F64, &device);
        let (vb, parameters) = Parameters::watch(source, |_| true);
        let network = PointTransformer::load(5, &config, &vb).unwrap();
        let (clouds, features) = batch(&[25, 14], 5);
        let features = features.to_dtype(DType::F64).unwrap();
        let hierarchy = hierarchy(&clouds, 2, 4);
        for mode in [EVAL, BATCH] {
            let loss = || {
                let out = network.forward(&hierarchy, &features, mode).unwrap();
                let probe: Vec<f64> = (0..out.elem_count()).map(|i| f64::from(spread(i, 4)) - 0.3).collect();
                (&out * Tensor::from_vec(probe, out.shape(), &device).unwrap()).unwrap().sum_all().unwrap()
            };
            let store = loss().backward().unwrap();
            for (name, var) in parameters.trained() {
                let kept = var.as_tensor().copy().unwrap().detach();
                let along: Vec<f64> =
                    (0..var.elem_count()).map(|i| f64::from(spread(i + name.len(), 5)) - 0.5).collect();
                let along = Tensor::from_vec(along, var.shape(), &device).unwrap();
                let at = |step: f64| {
                    var.set(&(&kept + (&along * step).unwrap()).unwrap()).unwrap();
                    loss().to_scalar::<f64>().unwrap()
                };
                let h = 1e-7;
                let difference = (at(h) - at(-h)) / (2.0 * h);
                var.set(&kept).unwrap();
                let found = (store.get(&var).unwrap() * &along).unwrap().sum_all().unwrap();
                let found = found.to_scalar::<f64>().unwrap();
                let allowed = 1e-5 * difference.abs().max(1.0);
                let apart = (found - difference).abs();
                assert!(apart <= allowed, "{attention:?} {mode:?} {name}: {found} {difference}");
            }
        }
    }
}

#[test]
fn a_small_cloud_is_filled_up_with_its_first_point() {
    let clouds = [scene(3, 0), scene(9, 50)];
    let hierarchy = hierarchy(&clouds, 2, 5);
    let within: Vec<Vec<u32>> = hierarchy.levels()[0].within().to_vec2().unwrap();
    for row in &within[..3] {
        assert_eq!(row[..3].iter().collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(row[3..], [0, 0]);
    }
    assert!(within[3..].iter().flatten().all(|index| (3..12).contains(index)));
    // Two clouds of one point and of two.
    assert_eq!(hierarchy.counts(), [1, 2]);
    let before: Vec<Vec<u32>> = hierarchy.levels()[1].before().unwrap().to_vec2().unwrap();
    assert_eq!(before[0][3..], [0, 0]);
}

#[test]
fn the_attention_is_chosen_by_configuration() {
    let text = "points = [8]\nwidths = [8]\nneighbours = 4\nshare = 4\n";
    let read = |text: &str| toml::from_str::<PointTransformerConfig>(text);
    assert_eq!(read(text).unwrap().attention, Form::Postech);
    assert_eq!(read(&format!("{text}attention = \"paper\"")).unwrap().attention, Form::Paper);
    assert_eq!(read(&format!("{text}attention = \"qq456cvb\"")).unwrap().attention, Form::Qq456cvb);
    let error = read(&format!("{text}attention = \"scalar\"")).unwrap_err().to_string();
    assert!(error.contains("scalar") && error.contains("postech"), "{error}");
}

#[test]
fn bad_input_is_named() {
    let device = Device::Cpu;
    let error = |result: candle_core::Result<Hierarchy>| result.unwrap_err().to_string();
    let size = |_: usize, before: usize| before / 4;
    let found = error(Hierarchy::new(&[&[[0.0; 3]], &[[0.0; 3], [0.0, f32::NAN, 0.0]]], 1, size, 4, &device));
    assert!(found.contains("cloud 1, point 1") && found.contains("NaN"), "{found}");
    let found = error(Hierarchy::new(&[&[]], 1, size, 4, &device));
    assert!(found.contains("cloud 0"), "{found}");

    let network = PointTransformer::load(7, &postech(&[16], 4), &fresh_weights(3, &device)).unwrap();
    let (clouds, features) = batch(&[40], 7);
    let deep = hierarchy(&clouds, 2, 8);
    let found = network.forward(&deep, &features, Mode::Infer).unwrap_err().to_string();
    assert!(found.contains("found 2 levels"), "{found}");
    let one = hierarchy(&clouds, 1, 8);
    let short = features.narrow(0, 0, 39).unwrap();
    let found = network.forward(&one, &short, Mode::Infer).unwrap_err().to_string();
    assert!(found.contains("[39, 7]") && found.contains("(40, 7)"), "{found}");
    let undefined = (&features * f64::NAN).unwrap();
    let found = network.forward(&one, &undefined, Mode::Infer).unwrap_err().to_string();
    assert!(found.contains("point 0") && found.contains("NaN"), "{found}");
    let within = Tensor::full(40u32, (40, 4), &device).unwrap();
    let level = Level::new(one.levels()[0].positions().clone(), within, None).unwrap();
    let outside = Hierarchy::from_levels(vec![level], vec![40]).unwrap();
    let found = network.forward(&outside, &features, Mode::Infer).unwrap_err().to_string();
    assert!(found.contains("index 40"), "{found}");
    let found = PointTransformer::load(7, &postech(&[18], 4), &fresh_weights(3, &device)).unwrap_err();
    assert!(found.to_string().contains("share"), "{found}");
}

/// A scan: dense near the sensor and thin far away.
fn scan(points: usize) -> Vec<[f32; 3]> {
    let point = |i: usize| {
        let (range, angle) = (2.0 * (20.0f32).powf(spread(i, 0)), std::f32::consts::TAU * spread(i, 1));
        [range * angle.cos(), range * angle.sin(), 3.0 * spread(i, 2)]
    };
    (0..points).map(point).collect()
}

#[test]
fn a_large_scan_has_the_neighbours_that_looking_at_all_pairs_finds() {
    let points = scan(16_384);
    let tree = KdTree::new(&points);
    let mut found = Vec::new();
    tree.nearest(&points, 16, 0, &mut found);
    for (query, found) in found.chunks(16).enumerate().step_by(997) {
        let to = |index: u32| -> f32 {
            let [a, b] = [query, index as usize].map(|place| points[place]);
            let [x, y, z] = [0, 1, 2].map(|axis| b[axis] - a[axis]);
            x * x + y * y + z * z
        };
        let mut all: Vec<u32> = (0..points.len() as u32).collect();
        all.sort_by(|&a, &b| to(a).total_cmp(&to(b)).then(a.cmp(&b)));
        assert_eq!(found, &all[..16]);
    }
}
