//! Heads that read one input each.

use candle_core::{Device, Tensor};
use mmsense::model::alone::{self, Alone};
use mmsense::model::fusion::Tokens;
use mmsense::model::layers::Mode;
use mmsense::model::seeded::{completed, fresh_weights};
use mmsense::model::tasks::{Asked, Core};
use mmsense::model::{Input, MODALITIES, Task};

use crate::scenes::{sizes, tiny};

const ROWS: usize = 3;

/// Tokens of which each row sees the inputs that `seen` says, in its last slot.
fn tokens(seen: impl Fn(usize, Input) -> bool) -> Tokens {
    let (config, slots) = (tiny(), sizes().slots);
    let count = config.tokens();
    let mut mask = Vec::new();
    for row in 0..ROWS {
        for _ in 0..slots {
            for input in Input::ALL {
                mask.extend(vec![f32::from(u8::from(seen(row, input))); count]);
            }
        }
    }
    let hint = candle_nn::Init::Randn { mean: 0.0, stdev: 1.0 };
    let shape = (ROWS, slots, MODALITIES, count, config.width);
    Tokens {
        values: fresh_weights(3, &Device::Cpu).get_with_hints(shape, "values", hint).unwrap(),
        mask: Tensor::from_vec(mask, (ROWS, slots, MODALITIES, count), &Device::Cpu).unwrap(),
        ages: Tensor::zeros((ROWS, slots, MODALITIES), candle_core::DType::F32, &Device::Cpu).unwrap(),
        reports: None,
    }
}

fn scores(heads: &Alone, tokens: &Tokens, rows: &[u32]) -> Vec<Vec<f32>> {
    let asked: Asked = [(Task::Beam, rows.to_vec())].into();
    heads.forward(tokens, &asked, Mode::Infer).unwrap().tasks[&Task::Beam].to_vec2().unwrap()
}

#[test]
fn a_row_is_read_by_the_heads_of_what_it_sees() {
    let heads = Alone::load(&tiny(), sizes(), &fresh_weights(7, &Device::Cpu)).unwrap();
    let one = |only: Input| scores(&heads, &tokens(|_, input| input == only), &[1])[0].clone();
    let alone: Vec<Vec<f32>> = Input::ALL.iter().map(|&input| one(input)).collect();
    for (number, scores) in alone.iter().enumerate() {
        assert_eq!(scores.len(), sizes().outputs(Task::Beam));
        assert!(alone.iter().skip(number + 1).all(|other| other != scores), "input {number}");
    }
    // Each row its own, whatever the other rows see.
    let mixed = tokens(|row, input| input == [Input::Radar, Input::Camera, Input::Link][row]);
    assert_eq!(scores(&heads, &mixed, &[1])[0], alone[0]);
    // Of a row that sees all, the mean.
    let all = &scores(&heads, &tokens(|_, _| true), &[1])[0];
    for (beam, score) in all.iter().enumerate() {
        let mean = alone.iter().map(|scores| scores[beam]).sum::<f32>() / MODALITIES as f32;
        assert!((score - mean).abs() < 1e-5, "{score} {mean}");
    }
    let blind: Asked = [(Task::Beam, vec![0])].into();
    let error = heads.forward(&tokens(|_, _| false), &blind, Mode::Infer).unwrap_err().to_string();
    assert!(error.contains("no row sees anything"), "{error}");
}

#[test]
fn an_encoder_that_others_say_more_than_gets_its_gradient() {
    let (vb, parameters) =
        mmsense::model::parameters::Parameters::watch(fresh_weights(7, &Device::Cpu), |_| true);
    let heads = Alone::load(&tiny(), sizes(), &vb.pp(alone::PREFIX)).unwrap();
    let asked: Asked = [(Task::Beam, vec![0, 1, 2]), (Task::Blockage, vec![0, 2])].into();
    let tokens = tokens(|row, input| row != 0 || input != Input::Lidar);
    let said = heads.forward(&tokens, &asked, Mode::Infer).unwrap();
    let sums = said.tasks.values().map(|scores| scores.sqr().unwrap().sum_all().unwrap());
    let gradients = sums.reduce(|a, b| (a + b).unwrap()).unwrap().backward().unwrap();
    for (name, var) in parameters.trained() {
        assert!(alone::is_of(&name), "{name}");
        let asked = ["beam", "blockage"].iter().any(|task| name.starts_with(&format!("alone.{task}.")));
        let found =
            gradients.get(var.as_tensor()).map(|of| of.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        let reached = found.is_some_and(|found| found.iter().any(|x| *x != 0.0));
        assert_eq!(reached, asked, "{name}");
    }
    assert!(!alone::is_of("alonely.x") && !alone::is_of("link.first.weight"));
}

#[test]
fn known_weights_are_completed_where_that_is_allowed() {
    let known = [("a".to_owned(), Tensor::zeros(2, candle_core::DType::F32, &Device::Cpu).unwrap())];
    let known = candle_nn::VarBuilder::from_tensors(
        known.into_iter().collect(),
        candle_core::DType::F32,
        &Device::Cpu,
    );
    let vb = completed(known, alone::is_of, fresh_weights(7, &Device::Cpu));
    let hint = candle_nn::Init::Const(3.0);
    let get = |name: &str| vb.get_with_hints(2, name, hint).and_then(|tensor| tensor.to_vec1::<f32>());
    assert_eq!(get("a").unwrap(), [0.0, 0.0]);
    assert_eq!(get("alone.b").unwrap(), [3.0, 3.0]);
    assert!(get("b").is_err());
}
