//! What can be asked, in the words of OpenAPI 3.1: made from the table of endpoints.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::config::Mode;

use super::endpoints::{ENDPOINTS, Endpoint, Format, Kind, Param};

pub async fn document() -> Json<Value> {
    Json(describe())
}

/// The whole document.
pub fn describe() -> Value {
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.to_ascii_lowercase()] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tandem",
            "summary": "The operator's interface",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "paths": paths,
        "components": {
            "schemas": { "Success": success(), "Failure": failure() },
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "token": { "type": "apiKey", "in": "header", "name": "x-admin-token" },
            },
        },
    })
}

fn success() -> Value {
    json!({
        "type": "object",
        "required": ["success", "data", "timestamp"],
        "properties": {
            "success": { "const": true },
            "data": { "type": "object" },
            "timestamp": { "type": "string", "format": "date-time" },
        },
    })
}

fn failure() -> Value {
    json!({
        "type": "object",
        "required": ["success", "error", "message", "timestamp"],
        "properties": {
            "success": { "const": false },
            "error": { "type": "string", "description": "For programs." },
            "message": { "type": "string", "description": "What is wrong and what to do." },
            "data": {},
            "timestamp": { "type": "string", "format": "date-time" },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut operation = json!({
        "summary": endpoint.what,
        "operationId": operation_id(endpoint),
        "responses": responses(endpoint),
    });
    if !endpoint.open {
        operation["security"] = json!([{ "bearer": [] }, { "token": [] }]);
    }
    let in_path = endpoint.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        let schema = match name {
            "strategy" => json!({ "type": "string", "enum": strategies() }),
            _ => json!({ "type": "integer", "minimum": 1 }),
        };
        Some(json!({ "name": name, "in": "path", "required": true, "schema": schema }))
    });
    let in_query = endpoint.query.iter().map(|param| {
        json!({
            "name": param.name,
            "in": "query",
            "required": param.required,
            "description": param.what,
            "schema": schema(param),
        })
    });
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    if !endpoint.body.is_empty() {
        let required: Vec<&str> =
            endpoint.body.iter().filter(|param| param.required).map(|param| param.name).collect();
        let properties: Map<String, Value> =
            endpoint.body.iter().map(|param| (param.name.to_owned(), described(param))).collect();
        let schema = json!({
            "type": "object",
            "required": required,
            "properties": properties,
            "additionalProperties": false,
        });
        operation["requestBody"] = json!({
            "required": !required.is_empty(),
            "content": { "application/json": { "schema": schema } },
        });
    }
    operation
}

/// The names of the strategies, in both ways of writing them.
fn strategies() -> Vec<String> {
    let names = Mode::ALL.iter().map(|mode| mode.as_str());
    names.flat_map(|name| [name.replace('_', "-"), name.to_owned()]).collect()
}

fn operation_id(endpoint: &Endpoint) -> String {
    let words = endpoint.path.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty() && *word != "admin").collect();
    format!("{}_{}", endpoint.method.to_ascii_lowercase(), words.join("_"))
}

fn described(param: &Param) -> Value {
    let mut schema = schema(param);
    if !param.required && !matches!(param.kind, Kind::Flag) {
        // As if it was left out.
        schema["type"] = json!([schema["type"], "null"]);
    }
    schema["description"] = json!(param.what);
    schema
}

fn schema(param: &Param) -> Value {
    match param.kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number { least, most } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Text => json!({ "type": "string", "minLength": 1 }),
        Kind::Matching(pattern) => json!({ "type": "string", "pattern": pattern }),
        Kind::OneOf(words) => json!({ "type": "string", "enum": words }),
    }
}

/// Every code that the call may be answered with.
fn responses(endpoint: &Endpoint) -> Value {
    let of = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let answer = |description: &str, name: &str| {
        json!({
            "description": description,
            "content": { "application/json": { "schema": of(name) } },
        })
    };
    let mut responses = Map::new();
    let well = match endpoint.format {
        Format::Envelope => answer("The answer.", "Success"),
        Format::Json => json!({
            "description": "The answer.",
            "content": { "application/json": { "schema": { "type": "object" } } },
        }),
        Format::Text => json!({
            "description": "The answer.",
            "content": { "text/plain": { "schema": { "type": "string" } } },
        }),
        Format::Page => json!({
            "description": "The answer.",
            "content": { "text/html": { "schema": { "type": "string" } } },
        }),
    };
    responses.insert("200".into(), well);
    if endpoint.long {
        responses
            .insert("202".into(), answer("The job that has begun, with `wait=false`.", "Success"));
        responses.insert(
            "409".into(),
            answer("Another job runs, or there is nothing to do.", "Failure"),
        );
    }
    if !endpoint.query.is_empty() || !endpoint.body.is_empty() {
        responses.insert("400".into(), answer("What is asked for cannot be.", "Failure"));
    }
    if !endpoint.body.is_empty() {
        responses.insert("413".into(), answer("The body is too large.", "Failure"));
    }
    if !endpoint.body.is_empty() && endpoint.long {
        responses.insert("408".into(), answer("The body did not come in time.", "Failure"));
    }
    if !endpoint.body.is_empty() && !endpoint.long {
        responses
            .insert("422".into(), answer("A member is missing or of another type.", "Failure"));
        responses.insert("415".into(), answer("The body is not said to be JSON.", "Failure"));
    }
    if endpoint.path.contains('{') || endpoint.body.iter().any(|param| param.name == "resume") {
        responses.insert("404".into(), answer("There is no such thing.", "Failure"));
    }
    if !endpoint.open {
        responses.insert("401".into(), answer("Without the token.", "Failure"));
        responses.insert("403".into(), answer("From a browser, where no token is set.", "Failure"));
    }
    responses.insert("503".into(), answer("Something that is needed is away.", "Failure"));
    responses.insert("504".into(), answer("It took too long.", "Failure"));
    Value::Object(responses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_described_under_a_name_of_its_own() {
        let document = describe();
        let mut names: Vec<String> = ENDPOINTS.iter().map(operation_id).collect();
        for endpoint in ENDPOINTS {
            let method = endpoint.method.to_ascii_lowercase();
            let operation = &document["paths"][endpoint.path][&method];
            assert_eq!(operation["operationId"], operation_id(endpoint), "{operation}");
            assert_eq!(operation["security"].is_null(), endpoint.open);
            let parameters = operation["parameters"].as_array().map_or(0, Vec::len);
            let expected = endpoint.query.len() + endpoint.path.matches('{').count();
            assert_eq!(parameters, expected, "{operation}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ENDPOINTS.len());
    }
}
