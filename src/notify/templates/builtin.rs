//! The texts that are part of the program.

/// The languages that are built in.
pub(super) const LANGUAGES: &[&str] = &["en", "zh"];

macro_rules! text {
    ($name:literal) => {
        ($name, include_str!($name))
    };
}

/// Every built-in text by its name.
pub(super) const TEXTS: &[(&str, &str)] = &[
    text!("layout.html"),
    text!("en/code.html"),
    text!("en/code.sms.txt"),
    text!("en/code.subject.txt"),
    text!("en/code.txt"),
    text!("en/code.what.txt"),
    text!("en/notice.advice.txt"),
    text!("en/notice.heading.txt"),
    text!("en/notice.html"),
    text!("en/notice.sms.txt"),
    text!("en/notice.subject.txt"),
    text!("en/notice.txt"),
    text!("en/notice.what.txt"),
    text!("zh/code.html"),
    text!("zh/code.sms.txt"),
    text!("zh/code.subject.txt"),
    text!("zh/code.txt"),
    text!("zh/code.what.txt"),
    text!("zh/notice.advice.txt"),
    text!("zh/notice.heading.txt"),
    text!("zh/notice.html"),
    text!("zh/notice.sms.txt"),
    text!("zh/notice.subject.txt"),
    text!("zh/notice.txt"),
    text!("zh/notice.what.txt"),
];
