//! JSON Schema of every message, made from its struct; the files in `config/schemas/` hold what these functions say.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::{
    ActivityMessage, BeamMessage, BlockageMessage, FrameMessage, HealthMessage, PoseMessage, ScoreMessage,
};

/// Kind of every message with its schema (JSON Schema 2020-12), by name. The kind is also the name of the schema file.
#[must_use]
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("activity", of::<ActivityMessage>("activity")),
        ("beam", of::<BeamMessage>("beam")),
        ("blockage", of::<BlockageMessage>("blockage")),
        ("frame", of::<FrameMessage>("frame")),
        ("health", of::<HealthMessage>("health")),
        ("pose", of::<PoseMessage>("pose")),
        ("score", of::<ScoreMessage>("score")),
    ]
}

/// The schema of one message, as it is serialised: every field is there, and `schema` names this one.
fn of<T: JsonSchema>(kind: &str) -> Schema {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    let name = format!("mmsense/{kind}/1");
    schema.insert("title".to_owned(), json!(name));
    if let Some(said) = schema.pointer_mut("/properties/schema").and_then(Value::as_object_mut) {
        said.insert("const".to_owned(), json!(name));
    }
    schema
}
