//! The baselines: one interface, gradients, and GPT-2 and MoE-LoRA against what others compute.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use mmsense::model::baselines::encoders::{FlatConfig, GridCnnConfig, MapConfig, MapEncoder, PatchConfig};
use mmsense::model::baselines::gpt2::{Gpt2, Gpt2Config};
use mmsense::model::baselines::moe_lora::{MoeLora, MoeLoraConfig};
use mmsense::model::baselines::{
    Cnn, CnnConfig, Llm4Wm, Llm4WmConfig, Mlp, MlpConfig, Stage, Transformer, TransformerConfig,
};
use mmsense::model::fusion::Tokens;
use mmsense::model::layers::{Mode, Statistics};
use mmsense::model::parameters::Parameters;
use mmsense::model::seeded::fresh_weights;
use mmsense::model::tasks::{Asked, Core, Said, Task, TokenShape};

const SHAPE: TokenShape = TokenShape { slots: 2, modalities: 3, tokens: 2, width: 4 };
const TASKS: [(Task, usize); 4] =
    [(Task::Beam, 5), (Task::Blockage, 2), (Task::Activity, 3), (Task::Pose, 6)];
const NAMES: [&str; 4] = ["MLP", "CNN", "Transformer", "LLM4WM"];
const TRAIN: Mode = Mode::Train { seed: 3, statistics: Statistics::Batch };

fn tiny_lora() -> MoeLoraConfig {
    MoeLoraConfig { experts: 3, rank: 2, embedding: 5, ..MoeLoraConfig::default() }
}

fn tiny_llm4wm() -> Llm4WmConfig {
    let backbone = Gpt2Config { width: 8, layers: 2, heads: 2, positions: 12 };
    Llm4WmConfig { backbone, gpt2: None, lora: tiny_lora(), blocks: 2, tokens: None }
}

/// A tiny core of each kind.
fn core(name: &str, tasks: &[(Task, usize)], vb: &VarBuilder<'_>) -> candle_core::Result<Box<dyn Core>> {
    Ok(match name {
        "MLP" => Box::new(Mlp::load(&MlpConfig { hidden: 7 }, SHAPE, tasks, vb)?),
        "CNN" => Box::new(Cnn::load(&CnnConfig { channels: vec![6, 5] }, SHAPE, tasks, vb)?),
        "Transformer" => {
            let config = TransformerConfig { layers: 2, heads: 2, hidden: 6 };
            Box::new(Transformer::load(&config, SHAPE, tasks, vb)?)
        }
        _ => Box::new(Llm4Wm::load(&tiny_llm4wm(), SHAPE, tasks, vb)?),
    })
}

fn random(name: &str, shape: &[usize], dtype: DType) -> Tensor {
    let init = Init::Randn { mean: 0.0, stdev: 1.0 };
    fresh_weights(5, &Device::Cpu).to_dtype(dtype).get_with_hints(shape, name, init).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Rows of which each lacks something else: the first a sample and half of another, the second nothing, the
/// third a whole slot.
fn tokens(dtype: DType) -> Tokens {
    let mask: [[[[f32; 2]; 3]; 2]; 3] = [
        [[[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]],
        [[[1.0, 1.0]; 3]; 2],
        [[[0.0, 0.0]; 3], [[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]],
    ];
    Tokens {
        values: random("values", &[3, 2, 3, 2, 4], dtype),
        mask: Tensor::new(&mask, &Device::Cpu).unwrap().to_dtype(dtype).unwrap(),
        ages: random("ages", &[3, 2, 3], dtype).abs().unwrap(),
        reports: None,
    }
}

fn all(rows: &[u32]) -> Asked {
    TASKS.iter().map(|&(task, _)| (task, rows.to_vec())).collect()
}

fn say(core: &dyn Core, tokens: &Tokens, asked: &Asked) -> BTreeMap<Task, Vec<f64>> {
    let said = core.forward(tokens, asked, Mode::Infer).unwrap();
    said.tasks.iter().map(|(&task, scores)| (task, numbers(scores))).collect()
}

/// Experts of LLM4WM start at B = 0, where A has no gradient.
fn stir(parameters: &Parameters) {
    for (name, var) in parameters.trained() {
        if name.ends_with("lora_B.weight") {
            var.set(&(random(&name, var.dims(), var.dtype()) * 0.3).unwrap()).unwrap();
        }
    }
}

fn is_trained(name: &str, tensor: &str) -> bool {
    name != "LLM4WM" || Stage::Experts.trains(tensor)
}

/// A core whose trained tensors are variables.
fn trained(name: &'static str, tasks: &[(Task, usize)], dtype: DType) -> (Box<dyn Core>, Parameters) {
    let source = fresh_weights(1, &Device::Cpu).to_dtype(dtype);
    let (vb, parameters) = Parameters::watch(source, move |tensor| is_trained(name, tensor));
    let core = core(name, tasks, &vb).unwrap();
    stir(&parameters);
    (core, parameters)
}

/// A random number per score, times the scores.
fn probe(said: &Said) -> Tensor {
    let parts = said.tasks.iter().map(|(task, scores)| {
        (scores * random(task.name(), scores.dims(), scores.dtype())).unwrap().sum_all().unwrap()
    });
    parts.reduce(|sum, part| (sum + part).unwrap()).unwrap()
}

#[test]
fn any_subset_of_tasks_is_answered_for_the_rows_asked() {
    for name in NAMES {
        let vb = fresh_weights(1, &Device::Cpu);
        let core = core(name, &TASKS, &vb).unwrap();
        let tokens = tokens(DType::F32);
        let whole = say(&*core, &tokens, &all(&[0, 1, 2]));
        for subset in 0..16u32 {
            let mut asked = Asked::new();
            for (bit, (task, _)) in TASKS.into_iter().enumerate() {
                if subset & (1 << bit) != 0 {
                    asked.insert(task, if bit == 0 { vec![2, 0, 2, 1] } else { vec![1] });
                }
            }
            let said = core.forward(&tokens, &asked, Mode::Infer).unwrap();
            assert_eq!(said.tasks.keys().collect::<Vec<_>>(), asked.keys().collect::<Vec<_>>(), "{name}");
            for (task, outputs) in TASKS {
                let (Some(rows), Some(scores)) = (asked.get(&task), said.tasks.get(&task)) else { continue };
                assert_eq!(scores.dims(), [rows.len(), outputs], "{name} {task}");
                for (row, scores) in rows.iter().zip(numbers(scores).chunks(outputs)) {
                    let expected = &whole[&task][*row as usize * outputs..][..outputs];
                    assert!(
                        expected.iter().zip(scores).all(|(a, b)| (a - b).abs() < 1e-5),
                        "{name} {task} {row}: {expected:?} {scores:?}"
                    );
                }
            }
        }
        let nobody = core.forward(&tokens, &all(&[]), Mode::Infer).unwrap();
        assert!(TASKS.iter().all(|(task, outputs)| nobody.tasks[task].dims() == [0, *outputs]), "{name}");
    }
}

#[test]
fn a_core_is_built_for_its_tasks_alone_and_says_so() {
    for name in NAMES {
        let vb = fresh_weights(1, &Device::Cpu);
        let core = core(name, &TASKS[..2], &vb).unwrap();
        let ask = |tokens: &Tokens, task: Task, rows: &[u32]| {
            let asked = Asked::from([(task, rows.to_vec())]);
            core.forward(tokens, &asked, Mode::Infer).map(|_| ()).map_err(|error| error.to_string())
        };
        let good = tokens(DType::F32);
        ask(&good, Task::Blockage, &[1]).unwrap();
        let error = ask(&good, Task::Pose, &[0]).unwrap_err();
        let expected = format!("task `pose`: this {name} was not built for it; allowed are: beam, blockage");
        assert!(error.contains(&expected), "{error}");
        let error = ask(&good, Task::Beam, &[0, 3]).unwrap_err();
        assert!(error.contains("task `beam`: found row 3, allowed are rows below 3"), "{error}");
        let wide = Tokens { values: random("wide", &[3, 2, 3, 2, 5], DType::F32), ..good.clone() };
        let error = ask(&wide, Task::Beam, &[0]).unwrap_err();
        let expected = "tokens: found [3, 2, 3, 2, 5], allowed is [3, 2, 3, 2, 4]";
        assert!(error.contains(expected), "{error}");
        let old = Tokens { ages: random("old", &[3, 2, 2], DType::F32), ..good };
        let error = ask(&old, Task::Beam, &[0]).unwrap_err();
        assert!(error.contains("their ages: found [3, 2, 2], allowed is [3, 2, 3]"), "{error}");
        let twice = self::core(name, &[TASKS[0], TASKS[0]], &vb).unwrap_err().to_string();
        assert!(twice.contains("found `beam` twice"), "{twice}");
    }
}

#[test]
fn a_row_is_answered_whatever_the_others_are() {
    for name in NAMES {
        let core = core(name, &TASKS, &fresh_weights(1, &Device::Cpu)).unwrap();
        let tokens = tokens(DType::F32);
        let other = Tokens {
            values: Tensor::cat(
                &[
                    &random("others", &[1, 2, 3, 2, 4], DType::F32),
                    &tokens.values.narrow(0, 1, 1).unwrap(),
                    &random("more", &[1, 2, 3, 2, 4], DType::F32),
                ],
                0,
            )
            .unwrap(),
            mask: Tensor::cat(
                &[
                    tokens.mask.narrow(0, 2, 1).unwrap(),
                    tokens.mask.narrow(0, 1, 2).unwrap().ones_like().unwrap(),
                ],
                0,
            )
            .unwrap(),
            ages: tokens.ages.clone(),
            reports: None,
        };
        assert_eq!(say(&*core, &tokens, &all(&[1])), say(&*core, &other, &all(&[1])), "{name}");
        assert_ne!(say(&*core, &tokens, &all(&[0])), say(&*core, &other, &all(&[0])), "{name}");
    }
}

#[test]
fn what_is_masked_changes_nothing() {
    for name in NAMES {
        let core = core(name, &TASKS, &fresh_weights(1, &Device::Cpu)).unwrap();
        let own = tokens(DType::F32);
        let rows = all(&[0, 1, 2]);
        let kept = own.mask.unsqueeze(4).unwrap().broadcast_as(own.values.dims()).unwrap();
        let present = own.mask.max(3).unwrap();
        let hidden = (random("hidden", own.values.dims(), DType::F32) * (1.0 - &kept).unwrap()).unwrap();
        let late = (random("late", own.ages.dims(), DType::F32) * (1.0 - &present).unwrap()).unwrap();
        let other = Tokens {
            values: (&own.values + hidden).unwrap(),
            mask: own.mask.clone(),
            ages: (&own.ages + late).unwrap(),
            reports: None,
        };
        assert_ne!(numbers(&own.values), numbers(&other.values));
        assert_eq!(say(&*core, &own, &rows), say(&*core, &other, &rows), "{name}");
        // What is not masked does change something: tokens, ages, and the mask itself.
        let seen = say(&*core, &own, &all(&[2]));
        let values =
            (&own.values + (random("seen", own.values.dims(), DType::F32) * &kept).unwrap()).unwrap();
        let ages = (&own.ages + (&present * 0.3).unwrap()).unwrap();
        let mask = own.mask.ones_like().unwrap();
        for other in
            [Tokens { values, ..own.clone() }, Tokens { ages, ..own.clone() }, Tokens { mask, ..own.clone() }]
        {
            assert_ne!(seen, say(&*core, &other, &all(&[2])), "{name}");
        }
    }
}

#[test]
fn a_window_without_anything_has_finite_answers() {
    for name in NAMES {
        let core = core(name, &TASKS, &fresh_weights(1, &Device::Cpu)).unwrap();
        let own = tokens(DType::F32);
        let nothing = Tokens { mask: own.mask.zeros_like().unwrap(), ..own };
        let said = say(&*core, &nothing, &all(&[0, 1]));
        assert!(said.values().flatten().all(|score| score.is_finite()), "{name}: {said:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_core() {
    for name in NAMES {
        let say = |seed: u64| {
            let core = core(name, &TASKS, &fresh_weights(seed, &Device::Cpu)).unwrap();
            say(&*core, &tokens(DType::F32), &all(&[0, 1, 2]))
        };
        assert_eq!(say(1), say(1), "{name}");
        assert_ne!(say(1), say(2), "{name}");
    }
}

#[test]
fn dropout_follows_the_seed_of_the_step() {
    let (core, _) = trained("LLM4WM", &TASKS, DType::F32);
    let say = |seed: u64| {
        let mode = Mode::Train { seed, statistics: Statistics::Batch };
        let said = core.forward(&tokens(DType::F32), &all(&[0, 1]), mode).unwrap();
        said.tasks.values().flat_map(numbers).collect::<Vec<_>>()
    };
    assert_eq!(say(1), say(1));
    assert_ne!(say(1), say(2));
}

#[test]
fn every_trained_tensor_has_a_gradient() {
    for name in NAMES {
        let (core, parameters) = trained(name, &TASKS, DType::F32);
        let said = core.forward(&tokens(DType::F32), &all(&[0, 1, 2]), TRAIN).unwrap();
        let gradients = probe(&said).backward().unwrap();
        let trained = parameters.trained();
        assert!(trained.len() >= 12, "{name}: {}", trained.len());
        for (tensor, var) in trained {
            let gradient = gradients.get(var.as_tensor()).map(numbers);
            let gradient = gradient.unwrap_or_else(|| panic!("{name}: {tensor} has no gradient"));
            assert!(gradient.iter().all(|number| number.is_finite()), "{name}: {tensor}");
            assert!(gradient.iter().any(|&number| number != 0.0), "{name}: {tensor} has a gradient of 0");
        }
        // All but LLM4WM have batch norms.
        let statistics = parameters.statistics();
        assert_eq!(statistics.is_empty(), name == "LLM4WM", "{name}");
        assert!(statistics.iter().all(|(tensor, _)| tensor.contains(".running_")), "{name}");
    }
}

/// Compares some numbers of each variable's gradient with central differences.
fn differences(name: &str, parameters: &[(String, Var)], loss: &dyn Fn() -> Tensor) {
    let gradients = loss().backward().unwrap();
    let step = 1e-6;
    for (tensor, var) in parameters {
        let gradient = numbers(gradients.get(var.as_tensor()).unwrap());
        let largest = gradient.iter().fold(0f64, |largest, number| largest.max(number.abs()));
        let own = numbers(var.as_tensor());
        let steepest = gradient.iter().position(|number| number.abs() == largest).unwrap();
        for place in [steepest, own.len() - 1] {
            let at = |offset: f64| {
                let mut moved = own.clone();
                moved[place] += offset;
                var.set(&Tensor::from_vec(moved, var.dims(), &Device::Cpu).unwrap()).unwrap();
                loss().to_scalar::<f64>().unwrap()
            };
            let difference = (at(step) - at(-step)) / (2.0 * step);
            var.set(&Tensor::from_slice(&own, var.dims(), &Device::Cpu).unwrap()).unwrap();
            let apart = (difference - gradient[place]).abs();
            assert!(
                apart <= 1e-5 * largest + 1e-7,
                "{name}: {tensor}[{place}]: gradient {}, difference {difference}",
                gradient[place]
            );
        }
    }
}

#[test]
fn gradients_of_the_cores_are_differences() {
    for name in NAMES {
        let (core, parameters) = trained(name, &TASKS[2..], DType::F64);
        let tokens = tokens(DType::F64);
        let asked = TASKS[2..].iter().map(|&(task, _)| (task, vec![0, 1, 2])).collect();
        differences(name, &parameters.trained(), &|| probe(&core.forward(&tokens, &asked, TRAIN).unwrap()));
    }
}

fn encoders() -> [(&'static str, MapConfig); 3] {
    [
        ("flat", MapConfig::Flat(FlatConfig { side: 4, hidden: 6 })),
        ("cnn", MapConfig::Cnn(GridCnnConfig { side: 8, channels: vec![3, 5] })),
        ("patches", MapConfig::Patches(PatchConfig { side: 6 })),
    ]
}

#[test]
fn encoders_make_tokens_of_any_square() {
    for (name, config) in encoders() {
        let vb = fresh_weights(1, &Device::Cpu);
        let encoder = MapEncoder::load(&config, 2, 4, 8, &vb).unwrap();
        for side in [6, 8, 13] {
            let maps = random("maps", &[3, 2, side, side], DType::F32);
            let tokens = encoder.forward(&maps, Mode::Infer).unwrap();
            assert_eq!(tokens.dims(), [3, 4, 8], "{name}");
            let alone = encoder.forward(&maps.narrow(0, 1, 1).unwrap(), Mode::Infer).unwrap();
            let apart = (alone - tokens.narrow(0, 1, 1).unwrap()).unwrap().abs().unwrap().max_all().unwrap();
            assert!(apart.to_scalar::<f32>().unwrap() < 1e-5, "{name}");
        }
        let error = MapEncoder::load(&config, 2, 9, 8, &vb);
        assert_eq!(error.is_err(), name == "cnn", "{name}: 9 tokens");
    }
}

#[test]
fn gradients_of_the_encoders_are_differences() {
    for (name, config) in encoders() {
        let (vb, parameters) =
            Parameters::watch(fresh_weights(1, &Device::Cpu).to_dtype(DType::F64), |_| true);
        let encoder = MapEncoder::load(&config, 2, 4, 8, &vb).unwrap();
        let maps = random("maps", &[2, 2, 13, 13], DType::F64);
        let weights = random("probe", &[2, 4, 8], DType::F64);
        let loss = || (encoder.forward(&maps, TRAIN).unwrap() * &weights).unwrap().sum_all().unwrap();
        let gradients = loss().backward().unwrap();
        for (tensor, var) in parameters.trained() {
            let gradient = numbers(gradients.get(var.as_tensor()).unwrap());
            assert!(gradient.iter().any(|&number| number != 0.0), "{name}: {tensor}");
        }
        differences(name, &parameters.trained(), &loss);
    }
}

#[test]
fn no_gradient_of_the_frozen_gpt2_is_computed_or_kept() {
    // All are variables, those of GPT-2 as well.
    let (vb, parameters) = Parameters::watch(fresh_weights(1, &Device::Cpu), |_| true);
    let core = core("LLM4WM", &TASKS, &vb).unwrap();
    stir(&parameters);
    let said = core.forward(&tokens(DType::F32), &all(&[0, 1, 2]), TRAIN).unwrap();
    let gradients = probe(&said).backward().unwrap();
    for (name, var) in parameters.trained() {
        let is_frozen = name.starts_with("gpt2.");
        assert_eq!(gradients.get(var.as_tensor()).is_none(), is_frozen, "{name}");
    }
    // Of a matrix, or of its transpose, as it is laid out within: 12 tokens of 3 rows make nothing of these shapes.
    for id in gradients.get_ids() {
        let gradient = gradients.get_id(*id).unwrap();
        assert!(
            ![[8, 24], [24, 8], [8, 32], [32, 8]].iter().any(|matrix| gradient.dims() == matrix),
            "{gradient}"
        );
    }
}

#[test]
fn llm4wm_sees_means_of_the_tokens_that_are_there() {
    let given = tokens(DType::F32);
    let thin = Llm4WmConfig { tokens: Some(1), ..tiny_llm4wm() };
    let vb = fresh_weights(1, &Device::Cpu);
    let thinned = Llm4Wm::load(&thin, SHAPE, &TASKS, &vb).unwrap();
    // The same by hand, for one that is given a single token of each reading.
    let single = Llm4Wm::load(&tiny_llm4wm(), TokenShape { tokens: 1, ..SHAPE }, &TASKS, &vb).unwrap();
    let (values, mask) = (numbers(&given.values), numbers(&given.mask));
    let mut means = Vec::new();
    for (pair, mask) in values.chunks_exact(2 * SHAPE.width).zip(mask.chunks_exact(2)) {
        let there = (mask[0] + mask[1]).max(1.0);
        let mean = |at: usize| (mask[0] * pair[at] + mask[1] * pair[SHAPE.width + at]) / there;
        means.extend((0..SHAPE.width).map(|at| mean(at) as f32));
    }
    let any: Vec<f32> = mask.chunks_exact(2).map(|mask| mask[0].max(mask[1]) as f32).collect();
    let by_hand = Tokens {
        values: Tensor::from_vec(means, (3, 2, 3, 1, 4), &Device::Cpu).unwrap(),
        mask: Tensor::from_vec(any, (3, 2, 3, 1), &Device::Cpu).unwrap(),
        ages: given.ages.clone(),
        reports: None,
    };
    let (thinned, single) =
        (say(&thinned, &given, &all(&[0, 1, 2])), say(&single, &by_hand, &all(&[0, 1, 2])));
    for (task, scores) in &thinned {
        let close = scores.iter().zip(&single[task]).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close, "{task}: {scores:?} {:?}", single[task]);
    }
    let odd = Llm4WmConfig { tokens: Some(3), ..tiny_llm4wm() };
    assert_eq!(odd.problems(&SHAPE)[0].1, "found 3, allowed are divisors of tokens of a reading = 2");
}

#[test]
fn each_tensor_of_llm4wm_has_one_stage_or_is_frozen() {
    let (vb, parameters) = Parameters::watch(fresh_weights(1, &Device::Cpu), |_| true);
    core("LLM4WM", &TASKS, &vb).unwrap();
    let mut stages: BTreeMap<Option<Stage>, BTreeSet<String>> = BTreeMap::new();
    for (name, _) in parameters.trained() {
        let stage = Stage::of(&name).unwrap();
        let [adapters, experts] = [Stage::Adapters, Stage::Experts].map(|stage| stage.trains(&name));
        let expected = match stage {
            None => [false, false],
            Some(Stage::Adapters) => [true, true],
            Some(Stage::Experts) => [false, true],
        };
        assert_eq!([adapters, experts], expected, "{name}");
        assert_eq!(stage.is_none(), name.starts_with("gpt2."), "{name}");
        assert_eq!(stage == Some(Stage::Experts), name.starts_with("lora."), "{name}");
        stages.entry(stage).or_default().insert(name);
    }
    // GPT-2: positions, last norm, and 12 tensors of a layer.
    assert_eq!(stages[&None].len(), 1 + 2 + 2 * 12);
    // Per task: 2 adapters of a Linear, 8 convolutions and a norm, and a head.
    assert_eq!(stages[&Some(Stage::Adapters)].len(), 4 * (2 * (2 + 16 + 2) + 2));
    // Per layer and place: A, B, the gate, and an embedding per task.
    assert_eq!(stages[&Some(Stage::Experts)].len(), 2 * 3 * (3 + 4));
    assert!(!Stage::Experts.trains("norm.camera.weight"));
    let error = Stage::of("norm.camera.weight").unwrap_err().to_string();
    assert!(error.contains("found `norm.camera.weight`"), "{error}");
}

#[test]
fn experts_add_their_mixture() {
    let config = MoeLoraConfig { dropout: 0.0, ..tiny_lora() };
    let (vb, parameters) = Parameters::watch(fresh_weights(4, &Device::Cpu).to_dtype(DType::F64), |_| true);
    let tasks = [Task::Beam, Task::Pose];
    let experts = MoeLora::load(&config, 4, 6, tasks.into_iter(), &vb).unwrap();
    let x = random("x", &[2, 3, 4], DType::F64);
    let nothing = experts.forward(&x, Task::Beam, Mode::Infer).unwrap();
    assert!(numbers(&nothing).iter().all(|&number| number == 0.0), "fresh experts add nothing");
    stir(&parameters);
    let named: HashMap<String, Vec<f64>> =
        parameters.trained().into_iter().map(|(name, var)| (name, numbers(var.as_tensor()))).collect();
    let (a, b, gate) = (&named["lora_A.weight"], &named["lora_B.weight"], &named["gate.weight"]);
    let (inputs, outputs, count, rank, width) = (4, 6, config.experts, config.rank, config.embedding);
    for task in tasks {
        let embedding = &named[&format!("embedding.{task}")];
        let scores: Vec<f64> = (0..count)
            .map(|expert| (0..width).map(|place| gate[expert * width + place] * embedding[place]).sum())
            .collect();
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        let found = numbers(&experts.forward(&x, task, Mode::Infer).unwrap());
        for (x, found) in numbers(&x).chunks(inputs).zip(found.chunks(outputs)) {
            for (output, found) in found.iter().enumerate() {
                let mut expected = 0.0;
                for (expert, score) in scores.iter().enumerate() {
                    let mut of_expert = 0.0;
                    for inner in 0..rank {
                        let row = expert * rank + inner;
                        let down: f64 = (0..inputs).map(|input| a[row * inputs + input] * x[input]).sum();
                        of_expert += b[output * count * rank + row] * down;
                    }
                    expected += 2.0 * score.exp() / sum * of_expert;
                }
                assert!((found - expected).abs() < 1e-12, "{task}: {found} {expected}");
            }
        }
    }
    assert_ne!(numbers(&experts.shares(Task::Beam).unwrap()), numbers(&experts.shares(Task::Pose).unwrap()));
    let error = experts.shares(Task::Activity).unwrap_err().to_string();
    assert!(error.contains("found no embedding of the task `activity`"), "{error}");
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gpt2")
}

fn golden_config() -> Gpt2Config {
    Gpt2Config { width: 24, layers: 2, heads: 3, positions: 20 }
}

#[test]
fn the_backbone_is_gpt2_of_transformers() {
    let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
    let backbone = Gpt2::load_file(&golden_config(), &golden().join("model.safetensors"), &vb).unwrap();
    let golden = candle_core::safetensors::load(golden().join("golden.safetensors"), &Device::Cpu).unwrap();
    let found = backbone.forward(&golden["inputs_embeds"], None).unwrap();
    assert_eq!(found.dims(), golden["last_hidden_state"].dims());
    let apart = (found - &golden["last_hidden_state"]).unwrap().abs().unwrap().max_all().unwrap();
    let apart = apart.to_scalar::<f32>().unwrap();
    eprintln!("GPT-2: {apart:e} from the golden");
    assert!(apart <= 5e-5, "{apart}");
}

#[test]
fn llm4wm_is_that_of_torch_around_gpt2_of_transformers() {
    let weights = candle_core::safetensors::load(golden().join("llm4wm.model.safetensors"), &Device::Cpu);
    let vb = VarBuilder::from_tensors(weights.unwrap(), DType::F32, &Device::Cpu);
    let backbone = Some(golden().join("model.safetensors"));
    let config = Llm4WmConfig { gpt2: backbone, backbone: golden_config(), ..tiny_llm4wm() };
    let tasks = [(Task::Beam, 5), (Task::Pose, 6)];
    let core = Llm4Wm::load(&config, SHAPE, &tasks, &vb).unwrap();
    let golden =
        candle_core::safetensors::load(golden().join("llm4wm.golden.safetensors"), &Device::Cpu).unwrap();
    let of = |name: &str| golden[name].clone();
    let tokens = Tokens { values: of("values"), mask: of("mask"), ages: of("ages"), reports: None };
    let asked = tasks.iter().map(|&(task, _)| (task, vec![0, 1])).collect();
    let said = core.forward(&tokens, &asked, Mode::Infer).unwrap();
    for (task, scores) in said.tasks {
        let apart = (scores - &golden[task.name()]).unwrap().abs().unwrap().max_all().unwrap();
        let apart = apart.to_scalar::<f32>().unwrap();
        eprintln!("LLM4WM, {task}: {apart:e} from the golden");
        assert!(apart <= 5e-5, "{task}: {apart}");
    }
}

#[test]
fn a_file_of_gpt2_is_read_under_either_prefix_and_named_in_errors() {
    let folder = tempfile::tempdir().unwrap();
    let own = golden().join("model.safetensors");
    let tensors = candle_core::safetensors::load(&own, &Device::Cpu).unwrap();
    let inside: HashMap<String, Tensor> =
        tensors.iter().map(|(name, tensor)| (format!("transformer.{name}"), tensor.clone())).collect();
    let other = folder.path().join("inside.safetensors");
    candle_core::safetensors::save(&inside, &other).unwrap();
    let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
    let x = random("x", &[1, 5, 24], DType::F32);
    let say = |path: &Path| {
        let backbone = Gpt2::load_file(&golden_config(), path, &vb).unwrap();
        numbers(&backbone.forward(&x, None).unwrap())
    };
    assert_eq!(say(&own), say(&other));

    // What GPT-2 publishes beside its layers is passed over, anything else is not.
    let with = |name: &str, dtype: DType| {
        let path = folder.path().join("more.safetensors");
        let mut more = tensors.clone();
        more.insert(name.to_owned(), Tensor::zeros(24, dtype, &Device::Cpu).unwrap());
        candle_core::safetensors::save(&more, &path).unwrap();
        Gpt2::load_file(&golden_config(), &path, &vb).map_err(|error| error.to_string())
    };
    for name in ["wte.weight", "lm_head.weight", "h.0.attn.bias", "h.1.attn.masked_bias"] {
        assert!(with(name, DType::F32).is_ok(), "{name}");
    }
    let error = with("h.1.mlp.bonus.weight", DType::F32).unwrap_err();
    assert!(error.contains("more.safetensors") && error.contains("h.1.mlp.bonus.weight"), "{error}");
    let error = with("h.1.ln_1.weight", DType::I64).unwrap_err();
    assert!(error.contains("holds I64"), "{error}");

    let refused =
        |config: &Gpt2Config, path: &Path| Gpt2::load_file(config, path, &vb).unwrap_err().to_string();
    let absent = folder.path().join("absent.safetensors");
    assert!(refused(&golden_config(), &absent).contains("absent.safetensors"));
    let error = refused(&Gpt2Config { layers: 3, ..golden_config() }, &own);
    assert!(error.contains("model.safetensors") && error.contains("h.2.ln_1.weight"), "{error}");
    let error = refused(&Gpt2Config { positions: 21, ..golden_config() }, &own);
    assert!(
        error.contains("wpe.weight") && error.contains("[21, 24]") && error.contains("[20, 24]"),
        "{error}"
    );
    let broken = folder.path().join("broken.safetensors");
    std::fs::write(&broken, b"nothing of the kind").unwrap();
    assert!(refused(&golden_config(), &broken).contains("broken.safetensors"));

    let config = Llm4WmConfig { gpt2: Some(own), backbone: golden_config(), ..tiny_llm4wm() };
    let (watched, parameters) = Parameters::watch(fresh_weights(1, &Device::Cpu), |_| true);
    let core = Llm4Wm::load(&config, SHAPE, &TASKS, &watched).unwrap();
    assert!(parameters.trained().iter().all(|(name, _)| !name.starts_with("gpt2.")));
    let said = self::say(&core, &tokens(DType::F32), &all(&[0]));
    assert!(said.values().flatten().all(|score| score.is_finite()));
}

#[test]
fn configurations_are_read_and_their_problems_named() {
    assert_eq!(toml::from_str::<MlpConfig>("").unwrap(), MlpConfig::default());
    let config: Llm4WmConfig = toml::from_str("[backbone]\nlayers = 3\n[lora]\nrank = 4").unwrap();
    assert_eq!((config.backbone.layers, config.backbone.width, config.lora.rank), (3, 768, 4));
    let error = toml::from_str::<CnnConfig>("chanels = [3]").unwrap_err().to_string();
    assert!(error.contains("chanels") && error.contains("channels"), "{error}");
    let map: MapConfig = toml::from_str("kind = \"patches\"\nside = 32").unwrap();
    assert_eq!(map, MapConfig::Patches(PatchConfig { side: 32 }));
    toml::from_str::<MapConfig>("kind = \"patches\"\nchannels = [3]").unwrap_err();

    let keys = |problems: Vec<(String, String)>| problems.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let defaults = TokenShape { slots: 5, modalities: 5, tokens: 16, width: 128 };
    assert!(MlpConfig::default().problems().is_empty() && CnnConfig::default().problems().is_empty());
    assert!(TransformerConfig::default().problems(&defaults).is_empty());
    assert!(Llm4WmConfig::default().problems(&defaults).is_empty());
    assert_eq!(keys(MlpConfig { hidden: 0 }.problems()), ["hidden"]);
    assert_eq!(keys(CnnConfig { channels: vec![] }.problems()), ["channels"]);
    let config = TransformerConfig { heads: 3, ..TransformerConfig::default() };
    assert_eq!(
        config.problems(&defaults)[0].1,
        "found 3, allowed are divisors of the width of a token = 128"
    );
    let long = TokenShape { slots: 13, ..defaults };
    let problems = Llm4WmConfig::default().problems(&long);
    assert_eq!(keys(problems), ["backbone.positions"]);
    let lora = MoeLoraConfig { dropout: 1.0, scaling: f64::NAN, experts: 0, ..tiny_lora() };
    let config = Llm4WmConfig { lora, ..Llm4WmConfig::default() };
    assert_eq!(keys(config.problems(&defaults)), ["lora.experts", "lora.scaling", "lora.dropout"]);
    let vb = fresh_weights(1, &Device::Cpu);
    let error = Llm4Wm::load(&config, SHAPE, &TASKS, &vb).unwrap_err().to_string();
    assert!(error.contains("configuration of LLM4WM: lora.experts: found 0, allowed is 1 to 256"), "{error}");
}

/// (Trained, frozen) numbers of what `load` asks for.
fn count(name: &'static str, load: impl Fn(&VarBuilder<'_>)) -> (usize, usize) {
    let of = |wanted: fn(&str, &str) -> bool| {
        let source = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let (vb, parameters) = Parameters::watch(source, move |tensor| wanted(name, tensor));
        load(&vb);
        parameters.trained().iter().map(|(_, var)| var.elem_count()).sum::<usize>()
    };
    let trained = of(is_trained);
    (trained, of(|_, _| true) - trained)
}

#[test]
fn sizes_by_default_are_what_they_are_said_to_be() {
    let shape = TokenShape { slots: 5, modalities: 5, tokens: 16, width: 128 };
    let (length, width) = (shape.length(), shape.width);
    let mlp = |inputs: usize, hidden: usize, outputs: usize| hidden * (inputs + 1) + outputs * (hidden + 1);
    let head = |inputs: usize, outputs: usize| 2 * inputs + mlp(inputs, inputs, outputs);
    let normed =
        |inputs: usize, hidden: usize, outputs: usize| hidden * (inputs + 2) + outputs * (hidden + 1);
    for (task, outputs) in [(Task::Beam, 64), (Task::Blockage, 4)] {
        let tasks = [(task, outputs)];
        let found = NAMES.map(|name| {
            count(name, |vb| match name {
                "MLP" => drop(Mlp::load(&MlpConfig::default(), shape, &tasks, vb).unwrap()),
                "CNN" => drop(Cnn::load(&CnnConfig::default(), shape, &tasks, vb).unwrap()),
                "Transformer" => {
                    drop(Transformer::load(&TransformerConfig::default(), shape, &tasks, vb).unwrap());
                }
                _ => drop(Llm4Wm::load(&Llm4WmConfig::default(), shape, &tasks, vb).unwrap()),
            })
        });
        let layer = 4 * width * width + 3 * width + 4 * width + mlp(width, 512, width);
        let conv = length * (3 * length + 1);
        let adapter = |inputs: usize| 768 * (inputs + 1) + 8 * conv + 2 * 768;
        let experts = [(768, 768), (768, 3072), (3072, 768)].map(|(inputs, outputs)| 64 * (inputs + outputs));
        let experts = 6 * (experts.iter().sum::<usize>() + 3 * (8 * 256 + 256));
        let of_gpt2 = 1024 * 768 + 2 * 768 + 6 * (12 * 768 * 768 + 13 * 768);
        let expected = [
            (normed(length * width + 50, 256, outputs), 0),
            (256 * (3 * (length * width / 5 + 10) + 2) + 256 * (3 * 256 + 2) + head(5 * 256, outputs), 0),
            ((5 + 5 + 16) * width + 17 * width + 4 * layer + head(width, outputs), 0),
            (adapter(width + 2) + adapter(768) + outputs * (length * 768 + 1) + experts, of_gpt2),
        ];
        for ((name, found), expected) in NAMES.into_iter().zip(found).zip(expected) {
            eprintln!("{name}, {task}: {} trained, {} frozen", found.0, found.1);
            assert_eq!(found, expected, "{name} {task}");
        }
    }
    let encoders = [
        ("flat", MapConfig::Flat(FlatConfig::default()), normed(3 * 32 * 32, 256, 16 * width)),
        (
            "cnn",
            MapConfig::Cnn(GridCnnConfig::default()),
            32 * 29 + 64 * (9 * 32 + 2) + 128 * (9 * 64 + 2) + width * 129,
        ),
        ("patches", MapConfig::Patches(PatchConfig::default()), width * 3 * 16 * 16 + 2 * 16 * width),
    ];
    for (name, config, expected) in encoders {
        let (found, _) = count("", |vb| drop(MapEncoder::load(&config, 3, 16, width, vb).unwrap()));
        eprintln!("{name} encoder of three channels: {found}");
        assert_eq!(found, expected, "{name}");
    }
}
