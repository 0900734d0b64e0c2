//! `user-service mail …`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Subcommand;
use serde_json::json;

use super::output::Output;
use crate::{
    clock::Clock,
    model::delivery::Template,
    notify::templates::{TemplateContext, Templates},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Writes a preview of every mail and text message, in every language, to files.
    Preview {
        /// Output folder; created if missing.
        folder: PathBuf,
        /// Texts that override the built-in ones, or add languages.
        #[arg(long, value_name = "FOLDER")]
        templates: Option<PathBuf>,
        /// The application's name.
        #[arg(long, default_value = "user-service")]
        app_name: String,
    },
}

pub(super) fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    let Command::Preview {
        folder,
        templates,
        app_name,
    } = command;
    let templates = Templates::load(templates.as_deref(), &app_name)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (mut written, now) = (0, Clock::System.now());
    let languages: Vec<String> = templates.languages().map(str::to_owned).collect();
    for language in &languages {
        for template in Template::ALL {
            let code = if template.has_code() { "123456" } else { "" };
            let asked = [language.clone()];
            let facts = TemplateContext {
                template: *template,
                languages: &asked,
                app_name: &app_name,
                code,
                minutes: 10,
                at: now,
                changes: 3,
            };
            let mail = templates.mail(&facts)?;
            let name = format!("{language}.{}", template.as_str());
            write(&folder, &format!("{name}.html"), &mail.html)?;
            write(
                &folder,
                &format!("{name}.txt"),
                &format!("{}\n\n{}", mail.subject, mail.text),
            )?;
            write(
                &folder,
                &format!("{name}.sms.txt"),
                &templates.text(&facts)?.0,
            )?;
            written += 3;
        }
    }
    let told = json!({ "folder": folder, "files": written });
    output.line(
        &format!("{written} files written to {}", folder.display()),
        &told,
    )?;
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
