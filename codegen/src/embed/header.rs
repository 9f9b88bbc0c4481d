//! The C header.

use std::fmt::Write;

use kiln_ir::DType;
use kiln_runtime::{ALIGNMENT, TensorSpec};

use super::names::Members;
use super::{Embedding, WeightPlace, status};

/// The most characters of a name that text takes over: C99 compilers need not take strings above 4095.
const LONGEST: usize = 200;

/// The text of the header: C99, and C++ from C++98 on.
pub(super) fn text(embedding: &Embedding<'_>) -> String {
    let mut header = Header { text: String::new(), embedding, upper: embedding.name.to_ascii_uppercase() };
    header.introduction();
    header.constants();
    header.types();
    header.statuses();
    header.functions();
    header.text
}

struct Header<'a> {
    text: String,
    embedding: &'a Embedding<'a>,
    upper: String,
}

impl Header<'_> {
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// A block comment of whole lines.
    fn comment(&mut self, lines: &str) {
        if let [line] = lines.lines().collect::<Vec<_>>()[..] {
            return self.line(format!("/* {line} */"));
        }
        for (i, line) in lines.lines().enumerate() {
            self.line(format!("{} {line}", if i == 0 { "/*" } else { " *" }).trim_end());
        }
        self.line(" */");
    }

    fn define(&mut self, name: &str, value: impl std::fmt::Display) {
        let upper = &self.upper;
        // writing to a string cannot fail
        let _ = writeln!(self.text, "#define {upper}_{name} {value}");
    }

    fn introduction(&mut self) {
        let (name, target) = (&self.embedding.name, self.embedding.target());
        let upper = self.upper.clone();
        let inside = self.embedding.place == WeightPlace::Object;
        let init = format!("{name}_init({})", if inside { "arena" } else { "arena, weights, bytes" });
        let run = format!("{name}_run(arena, &inputs, &outputs)");
        let of_file = match inside {
            true => "",
            false => {
                "\nThe weights are a file: load or map it, unchanged and as a whole, and keep it for as long as the arena is in use.\n"
            }
        };
        let introduction = format!(
            "{name}: a neural network, compiled by Kiln {} for {target}.\n\
             \n\
             It needs no library, allocates nothing, and runs on the thread that calls it. All that changes lies in the arena,\n\
             {upper}_ARENA_BYTES bytes of the caller's at a multiple of {upper}_ALIGNMENT. Usage:\n\
             \n\
             {init:40}once for each arena\n\
             {run:40}any number of times\n\
             \n\
             Both return {upper}_OK or what is wrong, which {name}_message says in words; nothing is written where {name}_run returns\n\
             an error. Arenas are independent: several may be in use, each on one thread at a time. Variables, if there are any, keep\n\
             their values in the arena from run to run. An arena may be copied as bytes, to an aligned place, at any time between runs.\n\
             Tensors are dense, the last axis contiguous, aligned to their elements. Outputs must not overlap inputs, each other\n\
             or the arena.\n{of_file}",
            env!("CARGO_PKG_VERSION"),
        );
        self.comment(&introduction);
        self.line(format!("#ifndef {upper}_H\n#define {upper}_H\n\n#include <stddef.h>\n#include <stdint.h>\n"));
        self.line("#ifdef __cplusplus\nextern \"C\" {\n#endif\n");
    }

    fn constants(&mut self) {
        self.comment("Memory, in bytes.");
        self.define("ARENA_BYTES", self.embedding.memory.total);
        self.define("ALIGNMENT", ALIGNMENT);
        if self.embedding.place == WeightPlace::File {
            self.define("WEIGHTS_BYTES", self.embedding.weights_file_bytes());
        }
        self.line("");
        let embedding = self.embedding;
        for (what, members) in [("INPUT", &embedding.inputs), ("OUTPUT", &embedding.outputs)] {
            self.define(&format!("{what}_COUNT"), members.len());
            for (member, spec) in members.iter() {
                self.tensor_constants(&format!("{what}_{}", member.to_ascii_uppercase()), spec);
            }
            self.line("");
        }
        if embedding.variables.is_empty() {
            return;
        }
        self.comment(
            "Variables: where their values lie in the arena, which may be read and set between runs. init gives them the values that\n\
             they start with.",
        );
        for ((member, spec), offset) in embedding.variables.iter().zip(&embedding.memory.variables) {
            let member = format!("VARIABLE_{}", member.to_ascii_uppercase());
            self.line(format!("/* {} */", described(spec)));
            self.define(&format!("{member}_OFFSET"), offset);
            self.tensor_constants(&member, spec);
        }
        self.line("");
    }

    fn tensor_constants(&mut self, member: &str, spec: &TensorSpec) {
        let bytes = spec.byte_len().unwrap_or(0);
        self.define(&format!("{member}_ELEMENTS"), bytes / spec.dtype.size());
        self.define(&format!("{member}_BYTES"), bytes);
    }

    fn types(&mut self) {
        let embedding = self.embedding;
        let structs = [("inputs", "const ", &embedding.inputs), ("outputs", "", &embedding.outputs)];
        for (what, qualifier, members) in structs {
            self.line(format!("struct {}_{what} {{", embedding.name));
            if members.is_empty() {
                self.line(format!("    const void *unused; /* there are no {what}: the struct may be null */"));
            }
            for (member, spec) in members.iter() {
                self.line(format!("    {qualifier}{} *{member}; /* {} */", c_type(spec.dtype), described(spec)));
            }
            self.line("};\n");
        }
    }

    fn statuses(&mut self) {
        let upper = self.upper.clone();
        self.comment("What init and run return. The index of the input or output is added to the last five.");
        self.line("enum {");
        for (name, code, _) in status::GENERAL {
            self.line(format!("    {upper}_{name} = {code},"));
        }
        let of_tensors = [
            ("INPUT_NULL", status::INPUT_NULL),
            ("INPUT_ALIGNMENT", status::INPUT_ALIGNMENT),
            ("INPUT_TRUTH", status::INPUT_TRUTH),
            ("OUTPUT_NULL", status::OUTPUT_NULL),
            ("OUTPUT_ALIGNMENT", status::OUTPUT_ALIGNMENT),
        ];
        let of_tensors = of_tensors.map(|(name, code)| format!("    {upper}_ERROR_{name} = {code:#x}"));
        self.line(of_tensors.join(",\n"));
        self.line("};\n");
        self.line("/* A status in words. */");
        self.line(format!(
            "static inline const char *{}_message(int status)\n{{\n    switch (status) {{",
            self.embedding.name
        ));
        for (name, _, message) in status::GENERAL {
            self.line(format!("    case {upper}_{name}: return \"{message}\";"));
        }
        let embedding = self.embedding;
        self.messages("INPUT", &embedding.inputs);
        self.messages("OUTPUT", &embedding.outputs);
        self.line("    default: return \"no status of this program\";\n    }\n}\n");
    }

    /// What is said about each of `members`, which are inputs or outputs.
    fn messages(&mut self, what: &str, members: &Members) {
        let word = what.to_ascii_lowercase();
        for (at, (_, spec)) in members.iter().enumerate() {
            let name = quoted(&spec.name);
            let mut case = |error: &str, says: &str| {
                let upper = &self.upper;
                self.text.push_str(&format!(
                    "    case {upper}_ERROR_{what}_{error} + {at}: return \"{word} `{name}` {says}\";\n"
                ));
            };
            case("NULL", "is null");
            if spec.dtype.size() > 1 {
                case("ALIGNMENT", &format!("is not aligned to {} bytes", spec.dtype.size()));
            }
            if what == "INPUT" && spec.dtype == DType::Bool {
                case("TRUTH", "has bytes other than 0 and 1");
            }
        }
    }

    fn functions(&mut self) {
        let (name, upper) = (self.embedding.name.clone(), self.upper.clone());
        let checks = match self.embedding.module.module().feature_names() {
            [] => format!("Every CPU of the architecture runs the code: {upper}_ERROR_CPU does not come back."),
            features => format!(
                "Returns {upper}_ERROR_CPU where the CPU, or the system, lacks any of:\n{}.",
                features.chunks(12).map(|chunk| chunk.join(", ")).collect::<Vec<_>>().join(",\n")
            ),
        };
        self.comment(&format!(
            "Prepares an arena; again, to give variables the values that they start with.\n{checks}"
        ));
        match self.embedding.place {
            WeightPlace::Object => self.line(format!("int {name}_init(void *arena);\n")),
            WeightPlace::File => {
                self.line(
                    "/* weights: the contents of the weights file, at a multiple of the alignment; bytes: its size. */",
                );
                self.line(format!("int {name}_init(void *arena, const void *weights, size_t bytes);\n"));
            }
        }
        self.line("/* Runs once: reads the inputs, writes the outputs. */");
        self.line(format!(
            "int {name}_run(void *arena, const struct {name}_inputs *inputs, const struct {name}_outputs *outputs);\n"
        ));
        self.line(format!("#ifdef __cplusplus\n}}\n#endif\n\n#endif /* {upper}_H */"));
    }
}

/// Name, dtype and extents, for a comment.
fn described(spec: &TensorSpec) -> String {
    // neither the end nor the beginning of a comment
    let name = quoted(&spec.name).replace("*/", "* /").replace("/*", "/ *");
    let note = match spec.dtype {
        DType::F16 => ": the bits of IEEE 754 binary16",
        DType::BF16 => ": the upper half of the bits of an IEEE 754 binary32",
        DType::Bool => ": 0 or 1",
        _ => "",
    };
    format!("`{name}`: {}{:?}{note}", spec.dtype, spec.dims)
}

/// The type of an element.
fn c_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float",
        DType::F64 => "double",
        DType::F16 | DType::BF16 => "uint16_t",
        DType::I8 => "int8_t",
        DType::U8 | DType::Bool => "uint8_t",
        DType::I32 => "int32_t",
        DType::I64 => "int64_t",
    }
}

/// `text` as part of a string literal, or of a comment: printable ASCII, no trigraphs, not too long.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            '"' | '\\' | '?' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    quoted.push_str(&format!("\\{byte:03o}"));
                }
            }
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        quoted.push_str("...");
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_comment_or_the_string_that_they_are_in() {
        let spec = TensorSpec::new("a*/b/*c\"d\\e??/f\ng é", DType::F32, [2, 3]);
        assert_eq!(described(&spec), r#"`a* /b/ *c\"d\\e\?\?/f\012g \303\251`: f32[2, 3]"#);
        assert!(!described(&TensorSpec::new("/*/*/", DType::F32, [1])).contains("*/"));
        let long = described(&TensorSpec::new("x".repeat(5000), DType::F16, [1]));
        assert!(long.len() < 300 && long.contains("x...`: f16[1]: the bits"), "{long}");
    }
}
