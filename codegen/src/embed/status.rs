//! What `init` and `run` return.

/// Everything is done.
pub(super) const OK: i32 = 0;
/// The CPU lacks what the code needs.
pub(super) const CPU: i32 = 1;
/// The arena is null.
pub(super) const ARENA_NULL: i32 = 2;
/// The arena is not aligned.
pub(super) const ARENA_ALIGNMENT: i32 = 3;
/// `init` of this program was not called with the arena.
pub(super) const ARENA_UNINITIALISED: i32 = 4;
/// The struct of inputs is null.
pub(super) const INPUTS_NULL: i32 = 5;
/// The struct of outputs is null.
pub(super) const OUTPUTS_NULL: i32 = 6;
/// The weights are null.
pub(super) const WEIGHTS_NULL: i32 = 7;
/// The weights are not aligned.
pub(super) const WEIGHTS_ALIGNMENT: i32 = 8;
/// There are more or fewer bytes of weights than the file has.
pub(super) const WEIGHTS_BYTES: i32 = 9;
/// The weights are another program's.
pub(super) const WEIGHTS_CONTENT: i32 = 10;

/// The input with the number that is added is null.
pub(super) const INPUT_NULL: i32 = 0x10000;
/// The input with the number that is added is not aligned to its elements.
pub(super) const INPUT_ALIGNMENT: i32 = 0x20000;
/// The input with the number that is added has truth values other than 0 and 1.
pub(super) const INPUT_TRUTH: i32 = 0x30000;
/// The output with the number that is added is null.
pub(super) const OUTPUT_NULL: i32 = 0x40000;
/// The output with the number that is added is not aligned to its elements.
pub(super) const OUTPUT_ALIGNMENT: i32 = 0x50000;

/// Inputs, and outputs, that the codes can tell apart.
pub(super) const MOST_TENSORS: usize = 0x10000;

/// Codes that do not name a tensor: the end of their constant's name, and what they say.
pub(super) const GENERAL: [(&str, i32, &str); 11] = [
    ("OK", OK, "no error"),
    ("ERROR_CPU", CPU, "the CPU lacks instructions that the code needs"),
    ("ERROR_ARENA_NULL", ARENA_NULL, "the arena is null"),
    ("ERROR_ARENA_ALIGNMENT", ARENA_ALIGNMENT, "the arena is not aligned"),
    ("ERROR_ARENA_UNINITIALISED", ARENA_UNINITIALISED, "init was not called with this arena"),
    ("ERROR_INPUTS_NULL", INPUTS_NULL, "the struct of inputs is null"),
    ("ERROR_OUTPUTS_NULL", OUTPUTS_NULL, "the struct of outputs is null"),
    ("ERROR_WEIGHTS_NULL", WEIGHTS_NULL, "the weights are null"),
    ("ERROR_WEIGHTS_ALIGNMENT", WEIGHTS_ALIGNMENT, "the weights are not aligned"),
    ("ERROR_WEIGHTS_BYTES", WEIGHTS_BYTES, "the weights have another size than their file: was it read whole?"),
    ("ERROR_WEIGHTS_CONTENT", WEIGHTS_CONTENT, "the weights are not the file that was written with this object"),
];
