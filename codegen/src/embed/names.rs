//! C identifiers.

use std::collections::BTreeSet;

use kiln_runtime::TensorSpec;

use super::EmbedError;

/// Words that C (to C23), C++ (to C++23) or the headers that a header includes keep for themselves, which a member of a struct cannot
/// be called. Those that begin with an underscore are not among what [`identifier`] gives.
const KEYWORDS: &[&str] = &[
    "alignas",
    "alignof",
    "and",
    "and_eq",
    "asm",
    "auto",
    "bitand",
    "bitor",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "char16_t",
    "char32_t",
    "char8_t",
    "class",
    "co_await",
    "co_return",
    "co_yield",
    "compl",
    "concept",
    "const",
    "const_cast",
    "consteval",
    "constexpr",
    "constinit",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "dynamic_cast",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "linux",
    "long",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "not_eq",
    "null",
    "nullptr",
    "offsetof",
    "operator",
    "or",
    "or_eq",
    "private",
    "protected",
    "public",
    "register",
    "reinterpret_cast",
    "requires",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "static_assert",
    "static_cast",
    "struct",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "typeof",
    "typeof_unqual",
    "union",
    "unix",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "wchar_t",
    "while",
    "xor",
    "xor_eq",
];

/// The most characters of a tensor's name that an identifier takes over.
const LONGEST: usize = 100;

/// Whether `name` can begin the identifiers of a header.
pub fn check_name(name: &str) -> Result<(), EmbedError> {
    let letter = name.starts_with(|c: char| c.is_ascii_alphabetic());
    // two underscores in a row are the implementation's in C++
    if letter
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.contains("__")
        && !name.ends_with('_')
    {
        return Ok(());
    }
    Err(EmbedError::Name { name: name.to_owned(), proposal: default_name(name) })
}

/// A name for the identifiers of a header that is like `text`: a file name without its extension, say.
pub fn default_name(text: &str) -> String {
    identifier(text, "model")
}

/// A C identifier like `text`, without leading, trailing or double underscores. `prefix` stands before a digit, and for nothing.
fn identifier(text: &str, prefix: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = words.collect::<Vec<_>>().join("_");
    name.truncate(LONGEST);
    match name.chars().next() {
        None => prefix.to_owned(),
        Some(first) if first.is_ascii_digit() => format!("{prefix}_{name}"),
        Some(_) => name,
    }
}

/// Tensors with an identifier each; no two are the same in capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Members(Vec<(String, TensorSpec)>);

impl Members {
    /// Identifiers for `specs`.
    pub fn of(specs: &[TensorSpec]) -> Members {
        let mut taken: BTreeSet<String> = KEYWORDS.iter().map(|word| word.to_ascii_uppercase()).collect();
        let mut member = |spec: &TensorSpec| {
            let base = identifier(&spec.name, "tensor");
            let mut candidates = std::iter::once(base.clone()).chain((2usize..).map(|n| format!("{base}_{n}")));
            let free = candidates.find(|name| taken.insert(name.to_ascii_uppercase())).unwrap_or(base);
            (free, spec.clone())
        };
        Members(specs.iter().map(&mut member).collect())
    }

    /// Identifier and tensor, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorSpec)> {
        self.0.iter().map(|(name, spec)| (name.as_str(), spec))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::DType;

    #[test]
    fn identifiers_are_like_the_names_they_come_from() {
        for (text, expected) in [
            ("resnet18", "resnet18"),
            ("model.v2-final", "model_v2_final"),
            ("/conv1/Conv_output:0", "conv1_Conv_output_0"),
            ("7", "model_7"),
            ("__a__b__", "a_b"),
            ("данные", "model"),
            ("", "model"),
        ] {
            assert_eq!(default_name(text), expected, "{text}");
            assert!(check_name(&default_name(text)).is_ok(), "{text}");
        }
        assert_eq!(default_name(&"long ".repeat(1000)).len(), LONGEST);
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_one_that_is() {
        for name in ["", "7", "_x", "x_", "a-b", "a b", "naïve", "a__b", "x\0"] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.contains(&format!("`{}`", default_name(name))), "{error}");
        }
    }

    #[test]
    fn members_differ_even_in_capitals_and_are_no_keywords() {
        let names = ["x", "X", "x.2", "x:2", "int", "class", "", "0"];
        let specs: Vec<_> = names.iter().map(|name| TensorSpec::new(*name, DType::F32, [1])).collect();
        let members = Members::of(&specs);
        let found: Vec<_> = members.iter().map(|(member, _)| member).collect();
        assert_eq!(found, ["x", "X_2", "x_2_2", "x_2_3", "int_2", "class_2", "tensor", "tensor_0"]);
    }
}
