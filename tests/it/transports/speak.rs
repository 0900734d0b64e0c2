//! One request spoken through each door, and what came back in one form.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::{Value, json};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Endpoint,
};
use tonic_types::StatusExt;
use url::form_urlencoded;
use user_service::convert::{POOL, SERVICES, annotations::http_bindings};

use crate::support::{
    TestApp,
    rest::{Caller, Reply},
};

/// What a door answered: the message, or all that the error tells.
pub type Answer = Result<Value, Value>;

/// What is drawn by chance, or sealed with it.
const BY_CHANCE: [&str; 2] = ["nextPageToken", "secret"];

/// The method of this name.
pub fn method(rpc: &str) -> MethodDescriptor {
    let services = SERVICES
        .iter()
        .filter_map(|name| POOL.get_service_by_name(name));
    let mut methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.find(|method| method.name() == rpc).expect("an RPC")
}

/// Speaks gRPC. What a stream answers is its last message.
pub async fn grpc(app: &TestApp, token: Option<&str>, rpc: &str, request: &Value) -> Answer {
    let method = method(rpc);
    let messages = match request {
        Value::Array(items) => items
            .iter()
            .map(|item| encoded(&method.input(), item))
            .collect(),
        request => vec![encoded(&method.input(), request)],
    };
    grpc_messages(app, token, &method, messages).await
}

/// Speaks gRPC with encoded messages.
pub async fn grpc_messages(
    app: &TestApp,
    token: Option<&str>,
    method: &MethodDescriptor,
    messages: Vec<Vec<u8>>,
) -> Answer {
    let channel = Endpoint::from_shared(format!("http://{}", app.address()))
        .unwrap()
        .connect_lazy();
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::iter(messages));
    if let Some(token) = token {
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name())
        .parse()
        .unwrap();
    let answered = match client.streaming(request, path, Bytes).await {
        Ok(reply) => last(reply.into_inner()).await,
        Err(status) => Err(status),
    };
    match answered {
        Ok(bytes) => Ok(shown(
            &DynamicMessage::decode(method.output(), bytes.as_slice()).unwrap(),
        )),
        Err(status) => Err(told_by_status(&status)),
    }
}

async fn last(mut stream: tonic::Streaming<Vec<u8>>) -> Result<Vec<u8>, Status> {
    let mut last = Vec::new();
    while let Some(message) = stream.message().await? {
        last = message;
    }
    Ok(last)
}

fn encoded(descriptor: &MessageDescriptor, json: &Value) -> Vec<u8> {
    message(descriptor, json).encode_to_vec()
}

/// A message from its proto3 JSON.
pub fn message(descriptor: &MessageDescriptor, json: &Value) -> DynamicMessage {
    DynamicMessage::deserialize(descriptor.clone(), json)
        .unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// A message in proto3 JSON.
fn shown(message: &DynamicMessage) -> Value {
    serde_json::to_value(message).unwrap()
}

/// An answer as its twin must give it: to the second, for a test's clock moves with each look, and
/// without what is drawn by chance.
pub fn comparable(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    match &mut answer {
        Ok(value) => settle(value),
        Err(told) => {
            settle(told);
            if let Some(wait) = told["wait"].as_f64() {
                told["wait"] = wait.ceil().into();
            }
        }
    }
    answer
}

fn settle(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Object(entries) => {
            for (name, value) in entries {
                if BY_CHANCE.contains(&name.as_str()) {
                    *value = json!("drawn")
                } else {
                    settle(value)
                }
            }
        }
        Value::String(text)
            if text.starts_with("20") && text.ends_with('Z') && text.get(10..11) == Some("T") =>
        {
            text.truncate(19);
        }
        _ => {}
    }
}

/// A route by method and path; what stands in braces is taken out of the request.
pub type Route = (String, String);

/// The routes that the contract gives an RPC, where this request fits them.
pub fn routes(rpc: &str, request: &Value) -> Vec<Route> {
    let method = method(rpc);
    let mut routes: Vec<Route> = http_bindings(&method)
        .into_iter()
        .map(|binding| (binding.method, binding.template))
        .collect();
    if rpc == "ImportUsers" {
        routes.push(("POST".to_owned(), "/v1/users:import".to_owned()));
    }
    routes.retain(|(_, path)| match param(path) {
        Some(name) => name
            .split('.')
            .try_fold(request, |holder, name| holder.get(camel(name)))
            .is_some(),
        None => !path.contains("/me/") || !names_user(&method, request),
    });
    assert!(!routes.is_empty(), "no route of {rpc} for {request}");
    routes
}

/// The path of the field in a path's braces.
fn param(path: &str) -> Option<&str> {
    path.split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(name, _)| name)
}

/// Whether a request says which user it is about: by `user_id`, or by another member of its oneof.
fn names_user(method: &MethodDescriptor, request: &Value) -> bool {
    let user_id = method
        .input()
        .get_field_by_name("user_id")
        .expect("a method about one user");
    let others = user_id
        .containing_oneof()
        .map(|oneof| oneof.fields().collect::<Vec<_>>());
    others
        .unwrap_or_else(|| vec![user_id])
        .iter()
        .any(|field| request.get(field.json_name()).is_some())
}

/// A field's name in JSON.
fn camel(name: &str) -> String {
    let (first, rest) = name.split_once('_').unwrap_or((name, ""));
    let rest = rest.split('_').filter(|word| !word.is_empty());
    first.to_owned()
        + &rest
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect::<String>()
}

/// Speaks JSON.
pub async fn rest(caller: &Caller, rpc: &str, request: &Value, (verb, path): &Route) -> Answer {
    let mut request = request.clone();
    let mut path = path.clone();
    if let Some(name) = param(&path.clone()) {
        path = path.replace(&format!("{{{name}}}"), &taken_out(&mut request, name));
    }
    let body = match (&request, verb.as_str()) {
        (Value::Array(lines), _) => lines
            .iter()
            .map(|line| format!("{}\n", line["user"]))
            .collect(),
        (request, "POST" | "PATCH") => request.to_string(),
        (request, _) => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            for (name, value) in parameters(request) {
                query.append_pair(&name, &value);
            }
            path = format!("{path}?{}", query.finish());
            String::new()
        }
    };
    let reply = caller.send(verb, &path, body).await;
    if reply.status.is_success() {
        Ok(shown(&message(&method(rpc).output(), &reply.body)))
    } else {
        Err(told_by_reply(&reply))
    }
}

fn taken_out(request: &mut Value, name: &str) -> String {
    let (holder, name) = match name.split_once('.') {
        Some((outer, inner)) => (&mut request[outer], inner),
        None => (request, name),
    };
    match holder
        .as_object_mut()
        .unwrap()
        .remove(&camel(name))
        .unwrap()
    {
        Value::String(text) => text,
        value => value.to_string(),
    }
}

fn parameters(request: &Value) -> Vec<(String, String)> {
    let entries = request.as_object().unwrap().iter();
    let texts = entries.flat_map(|(name, value)| match value {
        Value::String(text) => vec![(name.clone(), text.clone())],
        Value::Object(inner) if name == "connection" => inner
            .iter()
            .map(|(key, value)| (format!("{name}.{key}"), value.as_str().unwrap().to_owned()))
            .collect(),
        value => vec![(name.clone(), value.to_string())],
    });
    texts.collect()
}

fn told_by_status(status: &Status) -> Value {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    let bad = details
        .bad_request()
        .map(|bad| bad.field_violations.as_slice())
        .unwrap_or_default();
    let failed = details
        .precondition_failure()
        .map(|failure| failure.violations.as_slice())
        .unwrap_or_default();
    let quota = details
        .quota_failure()
        .map(|failure| failure.violations.as_slice())
        .unwrap_or_default();
    json!({
        "code": code_name(status.code()),
        "message": status.message(),
        "reason": info.reason,
        "domain": info.domain,
        "metadata": info.metadata.iter().collect::<BTreeMap<_, _>>(),
        "fields": bad.iter().map(|v| json!([v.field, v.reason, v.description])).collect::<Vec<_>>(),
        "preconditions": failed.iter().map(|v| json!([v.r#type, v.subject])).collect::<Vec<_>>(),
        "quota": quota.iter().map(|v| json!(v.subject)).collect::<Vec<_>>(),
        "resource": details.resource_info().map(|info| json!([info.resource_type, info.resource_name])),
        "wait": details.retry_info().and_then(|info| info.retry_delay).map(|wait| wait.as_secs_f64()),
    })
}

fn told_by_reply(reply: &Reply) -> Value {
    let error = &reply.body["error"];
    let code = error["status"]
        .as_str()
        .unwrap_or_else(|| panic!("no native error: {reply:?}"));
    assert_eq!(
        (reply.status.as_u16(), &error["code"]),
        (status_of(code), &json!(status_of(code))),
        "{error}"
    );
    let list = |detail: &str, name: &str, keys: &[&str]| -> Vec<Value> {
        let found = reply.detail(detail)[name]
            .as_array()
            .cloned()
            .unwrap_or_default();
        found
            .iter()
            .map(|item| keys.iter().map(|key| item[key].clone()).collect())
            .collect()
    };
    let info = reply.detail("ErrorInfo");
    let resource = reply.detail("ResourceInfo");
    let delay = reply.detail("RetryInfo")["retryDelay"].as_str();
    let wait: Option<f64> = delay.map(|delay| delay.trim_end_matches('s').parse().unwrap());
    let header = reply
        .headers
        .get("retry-after")
        .map(|value| value.to_str().unwrap().parse::<f64>().unwrap());
    assert_eq!(
        header,
        wait.map(|wait| wait.ceil().max(1.0)),
        "Retry-After tells the wait in whole seconds"
    );
    json!({
        "code": code,
        "message": error["message"],
        "reason": info["reason"],
        "domain": info["domain"],
        "metadata": info["metadata"],
        "fields": list("BadRequest", "fieldViolations", &["field", "reason", "description"]),
        "preconditions": list("PreconditionFailure", "violations", &["type", "subject"]),
        "quota": list("QuotaFailure", "violations", &["subject"]).iter().map(|item| &item[0]).collect::<Vec<_>>(),
        "resource": (!resource.is_null()).then(|| json!([resource["resourceType"], resource["resourceName"]])),
        "wait": wait,
    })
}

/// The name of a code as google.rpc.Code spells it.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// The HTTP status that the comments of google.rpc.Code give.
fn status_of(code: &str) -> u16 {
    match code {
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => 400,
        "UNAUTHENTICATED" => 401,
        "PERMISSION_DENIED" => 403,
        "NOT_FOUND" => 404,
        "ALREADY_EXISTS" | "ABORTED" => 409,
        "RESOURCE_EXHAUSTED" => 429,
        "INTERNAL" => 500,
        "UNIMPLEMENTED" => 501,
        "UNAVAILABLE" => 503,
        "DEADLINE_EXCEEDED" => 504,
        code => panic!("no status of {code}"),
    }
}

/// Messages as bytes, which descriptors read.
#[derive(Clone, Copy)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Bytes;
    type Decoder = Bytes;

    fn encoder(&mut self) -> Bytes {
        Bytes
    }

    fn decoder(&mut self) -> Bytes {
        Bytes
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}
