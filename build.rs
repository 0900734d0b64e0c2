//! Compiles `proto/` without protoc, and keeps the descriptors with their comments for reflection
//! and JSON.

use std::{env, error::Error, fmt::Write, fs, path::PathBuf};

use protox::prost_reflect::{
    DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor,
};

const PACKAGE: &str = "userservice.v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files: Vec<PathBuf> = fs::read_dir("proto/userservice/v1")?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "proto")
    });
    files.sort();

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(files)?;
    fs::write(
        out.join("userservice.v1.binpb"),
        compiler.encode_file_descriptor_set(),
    )?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    config.extern_path(
        ".google.protobuf.Struct",
        "crate::convert::proto_struct::Struct",
    );
    let messages = messages(&compiler.descriptor_pool());
    // prost's own Debug shows every field.
    let redacted: Vec<&MessageDescriptor> = messages
        .iter()
        .filter(|message| has_secret(message))
        .collect();
    config.skip_debug(
        redacted
            .iter()
            .map(|message| format!(".{}", message.full_name())),
    );
    fs::write(
        out.join("userservice.v1.debug.rs"),
        redacted.into_iter().map(debug_impl).collect::<String>(),
    )?;
    fs::write(out.join("userservice.v1.messages.rs"), list(&messages))?;
    tonic_prost_build::configure()
        .codec_path("crate::grpc::codec::Codec")
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}

/// The messages of the contract.
fn messages(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    pool.all_messages()
        .filter(|message| message.package_name() == PACKAGE)
        .collect()
}

/// All messages with a function of their type, for the tests: `shown::<M>`.
fn list(messages: &[MessageDescriptor]) -> String {
    let entries = messages.iter().map(|message| {
        format!(
            "({:?}, shown::<pb::{}>),",
            message.full_name(),
            path(message)
        )
    });
    format!("[{}]", entries.collect::<String>())
}

/// Whether a message has a secret, or lies inside of one that has: `skip_debug` holds for both.
fn has_secret(message: &MessageDescriptor) -> bool {
    message.fields().any(|field| is_secret(&field))
        || message
            .parent_message()
            .is_some_and(|outer| has_secret(&outer))
}

fn is_secret(field: &FieldDescriptor) -> bool {
    let options = field.options();
    options
        .get_field_by_name("debug_redact")
        .and_then(|value| value.as_bool())
        .unwrap_or_default()
}

/// A message's type as prost names it, from the package on.
fn path(message: &MessageDescriptor) -> String {
    match message.parent_message() {
        Some(outer) => format!("{}{}", module(&outer), message.name()),
        None => message.name().to_owned(),
    }
}

/// The module of what a message holds.
fn module(message: &MessageDescriptor) -> String {
    let outer = message
        .parent_message()
        .map(|outer| module(&outer))
        .unwrap_or_default();
    let mut name = String::new();
    for letter in message.name().chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    format!("{outer}{name}::")
}

/// The name of a oneof's type, or of one of its variants.
fn camel(name: &str) -> String {
    let words = name
        .split('_')
        .map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect()
}

/// `Debug` of a message as prost derives it, but for its secrets, and of its oneofs.
fn debug_impl(message: &MessageDescriptor) -> String {
    let mut body = format!("f.debug_struct({:?})", message.name());
    let is_choice = |field: &FieldDescriptor| {
        field
            .containing_oneof()
            .is_some_and(|oneof| !oneof.is_synthetic())
    };
    for field in message.fields().filter(|field| !is_choice(field)) {
        let name = field.name();
        let value = match field.kind() {
            _ if is_secret(&field) => format!("crate::convert::redact::Redacted(&self.r#{name})"),
            Kind::Enum(_) if !field.is_list() => format!("self.{name}()"),
            _ => format!("self.r#{name}"),
        };
        write!(body, ".field({name:?}, &{value})").expect("valid: a string takes all text");
    }
    let oneofs: Vec<OneofDescriptor> = message
        .oneofs()
        .filter(|oneof| !oneof.is_synthetic())
        .collect();
    for name in oneofs.iter().map(OneofDescriptor::name) {
        write!(body, ".field({name:?}, &self.r#{name})").expect("valid: a string takes all text");
    }
    let choices = oneofs.iter().map(|oneof| {
        let arms = oneof.fields().map(|field| {
            let (name, is_secret) = (camel(field.name()), is_secret(&field));
            let value = if is_secret {
                "crate::convert::redact::Redacted(value)"
            } else {
                "value"
            };
            format!("Self::{name}(value) => f.debug_tuple({name:?}).field(&{value}).finish(),")
        });
        let arms: String = arms.collect();
        debug(
            &format!("{}{}", module(message), camel(oneof.name())),
            &format!("match self {{ {arms} }}"),
        )
    });
    debug(&path(message), &format!("{body}.finish()")) + &choices.collect::<String>()
}

fn debug(name: &str, body: &str) -> String {
    format!(
        "impl ::core::fmt::Debug for {name} {{\n    \
         fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        {body}\n    }}\n}}\n"
    )
}
