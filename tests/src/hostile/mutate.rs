//! Damage: random changes of bytes, of the tokens of text, and of the messages of ONNX models. A function of the seed alone.

use bytes::Bytes;
use kiln::onnx::proto::{AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto, TypeValue};
use kiln::onnx::supported_operators;
use kiln_ir::ops::ROWS;
use prost::Message;

use super::{Format, sign};

/// A small generator of random numbers (SplitMix64; Steele, Lea & Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, 0 where `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Numbers at which something overflows, wraps or ends.
const EXTREMES: [i64; 20] = [
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    65535,
    65536,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    1 << 32,
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MIN,
    i64::MAX - 63,
    -65536,
];

/// The longest file that damage makes: repeated repetition would fill the memory.
const LONGEST: usize = 1 << 20;

/// A damaged copy of `seed`, with parts of `other`.
pub fn mutate(format: Format, seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = damaged(format, seed, other, random);
    out.truncate(LONGEST);
    out
}

fn damaged(format: Format, seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    match format {
        Format::Text | Format::Tuning => text(seed, other, random),
        Format::Onnx if !random.one_in(3) => onnx(seed, other, random),
        Format::Artifact => artifact(seed, other, random),
        Format::Npy if random.one_in(2) => npy(seed, random),
        Format::Npz if !random.one_in(3) => npz(seed, random),
        Format::Safetensors if random.one_in(2) => safetensors(seed, other, random),
        _ => bytes(seed, other, random),
    }
}

/// One to four changes of bytes anywhere.
pub fn bytes(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = seed.to_vec();
    for _ in 0..1 + random.below(4) {
        change_bytes(&mut out, other, random);
    }
    out
}

fn range(len: usize, random: &mut Random) -> std::ops::Range<usize> {
    let start = random.below(len + 1);
    let longest = if random.one_in(4) { len } else { 16 };
    start..(start + random.below(longest + 1)).min(len)
}

fn change_bytes(out: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if out.is_empty() {
        out.extend_from_slice(other);
        return;
    }
    let at = random.below(out.len());
    match random.below(11) {
        0 | 1 => out[at] ^= 1 << random.below(8),
        2 => out[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff, b' ', b'0', b'{']),
        3 | 4 => {
            let near = out.len() as i64 + random.below(3) as i64 - 1;
            let value = if random.one_in(4) { near } else { *random.pick(&EXTREMES) };
            let width = *random.pick(&[2usize, 4, 8]);
            let mut field = value.to_le_bytes();
            if random.one_in(4) {
                field[..width].reverse();
            }
            let end = (at + width).min(out.len());
            out[at..end].copy_from_slice(&field[..end - at]);
        }
        5 => drop(out.drain(range(out.len(), random))),
        6 => {
            let copy = out[range(out.len(), random)].to_vec();
            out.splice(at..at, copy);
        }
        7 => {
            let copy = other[range(other.len(), random)].to_vec();
            let place = range(out.len(), random);
            out.splice(place, copy);
        }
        8 => out.truncate(at),
        9 => {
            let copy = out[range(out.len(), random)].to_vec();
            for _ in 0..1 + random.below(64) {
                if out.len() < LONGEST {
                    out.extend_from_slice(&copy);
                }
            }
        }
        _ => {
            let (a, b) = (range(out.len(), random), random.below(out.len()));
            let copy = out[a].to_vec();
            let end = (b + copy.len()).min(out.len());
            out[b..end].copy_from_slice(&copy[..end - b]);
        }
    }
}

/// Words, numbers, strings, names and single characters, with the blanks after them.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let mut token = c.to_string();
        if c == '"' {
            for c in chars.by_ref() {
                token.push(c);
                if c == '"' || c == '\n' {
                    break;
                }
            }
        } else if c.is_alphanumeric() || "%@_.-".contains(c) {
            while let Some(&c) = chars.peek().filter(|c| c.is_alphanumeric() || "_.#".contains(**c)) {
                token.push(c);
                chars.next();
            }
        }
        while let Some(&c) = chars.peek().filter(|c| c.is_whitespace()) {
            token.push(c);
            chars.next();
        }
        tokens.push(token);
    }
    tokens
}

/// One to five changes of tokens, or of lines, or of bytes that stay text.
fn text(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    if random.one_in(5) {
        return bytes(seed, other, random);
    }
    let (mut out, other) = (tokens(&String::from_utf8_lossy(seed)), tokens(&String::from_utf8_lossy(other)));
    for _ in 0..1 + random.below(5) {
        change_tokens(&mut out, &other, random);
    }
    out.concat().into_bytes()
}

const NUMBERS: [&str; 22] = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "16",
    "64",
    "1000",
    "-1",
    "-2",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "1e39",
    "-1e-45",
    "0.5",
    "nan",
    "inf",
    "-inf",
];

fn change_tokens(out: &mut Vec<String>, other: &[String], random: &mut Random) {
    if out.is_empty() || other.is_empty() {
        return;
    }
    let at = random.below(out.len());
    let blank = |token: &str| token.trim_start_matches(|c: char| !c.is_whitespace()).to_owned();
    // Of the same sort, so that most results are still sentences of the language.
    let sort = |token: &str| match token.trim_end().chars().next() {
        Some('%') => 0,
        Some('-' | '0'..='9') => 1,
        Some('a'..='z' | 'A'..='Z' | '_') => 2,
        Some('"') => 3,
        _ => 4,
    };
    let alike = |sort_wanted: usize, from: &[String], random: &mut Random| {
        let found: Vec<&String> = from.iter().filter(|t| sort(t) == sort_wanted).collect();
        (!found.is_empty()).then(|| (*random.pick(&found)).trim_end().to_owned())
    };
    match random.below(14) {
        0..=3 => {
            let numbers: Vec<usize> = (0..out.len()).filter(|&i| sort(&out[i]) == 1).collect();
            if let Some(&i) = numbers.get(random.below(numbers.len())) {
                out[i] = random.pick(&NUMBERS).to_string() + &blank(&out[i]);
            }
        }
        4 | 5 => {
            let own = out.clone();
            if let Some(new) = alike(sort(&out[at]), &own, random) {
                out[at] = new + &blank(&out[at]);
            }
        }
        6 => {
            if let Some(new) = alike(sort(&out[at]), other, random) {
                out[at] = new + &blank(&out[at]);
            }
        }
        7 | 8 => {
            let ops: Vec<usize> =
                (0..out.len()).filter(|&i| ROWS.iter().any(|r| r.mnemonic == out[i].trim_end())).collect();
            if let Some(&i) = ops.get(random.below(ops.len())) {
                out[i] = random.pick(ROWS).mnemonic.to_owned() + &blank(&out[i]);
            }
        }
        9 => drop(out.remove(at)),
        10 => {
            let copy = out[at].clone();
            out.insert(at, copy);
        }
        11 => {
            let place = range(out.len(), random);
            let copy = out[place].to_vec();
            out.splice(at..at, copy);
        }
        12 => {
            let copy = other[range(other.len(), random)].to_vec();
            let place = range(out.len(), random);
            out.splice(place, copy);
        }
        _ => {
            let deep = random.pick(&["[", "(", "{", "-", "<", "relu(", "\""]).repeat(1 + random.below(3000));
            out.insert(at, deep);
        }
    }
}

/// One to three changes of the messages of a model; bytes where it is none.
fn onnx(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let (Ok(mut model), Ok(other)) = (ModelProto::decode(seed), ModelProto::decode(other)) else {
        return bytes(seed, other, random);
    };
    for _ in 0..1 + random.below(3) {
        change_model(&mut model, &other, random);
    }
    model.encode_to_vec()
}

fn change_model(model: &mut ModelProto, other: &ModelProto, random: &mut Random) {
    let functions = model.functions.len();
    match random.below(12) {
        0 => {
            if let Some(import) = model.opset_import.first_mut() {
                import.version =
                    Some(*random.pick(&[1, 6, 7, 9, 10, 11, 12, 13, 17, 18, 20, 21, 22, 99, -1, i64::MAX]));
            }
        }
        1 if functions > 0 => {
            let at = random.below(functions);
            let nodes = &mut model.functions[at].node;
            if let Some(node) = nodes.first().cloned() {
                // A function that calls itself, or an operator that it hides.
                let name = model.functions[at].name.clone();
                let domain = model.functions[at].domain.clone();
                model.functions[at].node.push(NodeProto { op_type: name, domain, ..node });
            }
        }
        _ => {
            if let Some(graph) = &mut model.graph {
                change_graph(graph, other.graph.as_ref(), random);
            }
        }
    }
}

/// Every name of a value in a graph.
fn names(graph: &GraphProto) -> Vec<String> {
    let constants = graph.initializer.iter().filter_map(|t| t.name.clone());
    let inputs = graph.input.iter().filter_map(|i| i.name.clone());
    constants.chain(inputs).chain(graph.node.iter().flat_map(|n| n.output.iter().cloned())).collect()
}

fn change_graph(graph: &mut GraphProto, other: Option<&GraphProto>, random: &mut Random) {
    let names = names(graph);
    let any_name = |random: &mut Random| match random.below(8) {
        0 => String::new(),
        1 => "nowhere".to_owned(),
        _ if names.is_empty() => String::new(),
        _ => random.pick(&names).clone(),
    };
    let (nodes, constants, inputs) = (graph.node.len(), graph.initializer.len(), graph.input.len());
    match random.below(14) {
        0..=4 if nodes > 0 => {
            let at = random.below(nodes);
            let name = any_name(random);
            change_node(&mut graph.node[at], other, name, random);
        }
        5 | 6 if constants > 0 => {
            let at = random.below(constants);
            change_tensor(&mut graph.initializer[at], random);
        }
        7 | 8 if inputs > 0 => {
            let at = random.below(inputs);
            if let Some(TypeValue::Tensor(tensor)) = graph.input[at].r#type.as_mut().and_then(|t| t.value.as_mut()) {
                match random.below(4) {
                    0 => tensor.elem_type = Some(random.below(25) as i32),
                    1 => tensor.shape = None,
                    _ => {
                        if let Some(shape) = &mut tensor.shape {
                            let rank = shape.dim.len();
                            match random.below(4) {
                                0 => drop(shape.dim.pop()),
                                1 if rank > 0 => {
                                    let copy = shape.dim[random.below(rank)].clone();
                                    shape.dim.push(copy);
                                }
                                _ if rank > 0 => {
                                    let value =
                                        if random.one_in(2) { random.below(9) as i64 } else { *random.pick(&EXTREMES) };
                                    shape.dim[random.below(rank)].value = Some(DimensionValue::Value(value));
                                }
                                _ => {}
                            }
                        }
                    }
                }
            }
        }
        9 if nodes > 0 => drop(graph.node.remove(random.below(nodes))),
        10 if nodes > 0 => {
            let copy = graph.node[random.below(nodes)].clone();
            graph.node.insert(random.below(nodes + 1), copy);
        }
        11 if nodes > 1 => graph.node.swap(random.below(nodes), random.below(nodes)),
        12 => {
            if let Some(node) = other.filter(|o| !o.node.is_empty()).map(|o| random.pick(&o.node).clone()) {
                let inputs = node.input.iter().map(|_| any_name(random)).collect();
                graph.node.insert(random.below(nodes + 1), NodeProto { input: inputs, ..node });
            }
        }
        _ => {
            if let Some(output) = graph.output.first_mut() {
                output.name = Some(any_name(random));
            }
        }
    }
}

fn change_node(node: &mut NodeProto, other: Option<&GraphProto>, name: String, random: &mut Random) {
    let (inputs, attributes) = (node.input.len(), node.attribute.len());
    match random.below(9) {
        0 | 1 => {
            let operators = supported_operators();
            let name = random.pick(&operators);
            let (domain, op_type) = name.rsplit_once('.').unwrap_or(("", name));
            node.domain = Some(domain.to_owned());
            node.op_type = Some(op_type.to_owned());
        }
        2 if inputs > 0 => node.input[random.below(inputs)] = name,
        3 => drop(node.input.pop()),
        4 => node.input.push(name),
        5 | 6 if attributes > 0 => change_attribute(&mut node.attribute[random.below(attributes)], random),
        7 if attributes > 0 => drop(node.attribute.remove(random.below(attributes))),
        _ => {
            let all = other.map(|o| o.node.iter().flat_map(|n| &n.attribute).collect::<Vec<_>>()).unwrap_or_default();
            if !all.is_empty() {
                node.attribute.push((*random.pick(&all)).clone());
            }
        }
    }
}

fn change_attribute(attribute: &mut AttributeProto, random: &mut Random) {
    let number = |random: &mut Random| {
        if random.one_in(2) { random.below(12) as i64 - 4 } else { *random.pick(&EXTREMES) }
    };
    let ints = attribute.ints.len();
    if let Some(graph) = &mut attribute.g {
        return change_graph(graph, None, random);
    }
    if let Some(tensor) = attribute.t.as_mut().filter(|_| random.one_in(2)) {
        return change_tensor(tensor, random);
    }
    match random.below(6) {
        0 if attribute.i.is_some() => attribute.i = Some(number(random)),
        0 | 1 if ints > 0 => attribute.ints[random.below(ints)] = number(random),
        2 if ints > 0 => drop(attribute.ints.pop()),
        3 => attribute.ints.push(number(random)),
        4 => attribute.f = Some(*random.pick(&[0.0, -1.0, 1e38, f32::NAN, f32::INFINITY, -0.0, 1e-45])),
        5 => {
            let words: [&'static [u8]; 5] = [b"SAME_UPPER", b"VALID", b"linear", b"\xff", b""];
            attribute.s = Some(Bytes::from_static(random.pick::<&'static [u8]>(&words)));
        }
        _ => attribute.i = Some(number(random)),
    }
}

fn change_tensor(tensor: &mut TensorProto, random: &mut Random) {
    let rank = tensor.dims.len();
    match random.below(6) {
        0 => tensor.data_type = Some(random.below(25) as i32),
        1 if rank > 0 => tensor.dims[random.below(rank)] = *random.pick(&EXTREMES),
        2 if rank > 0 => tensor.dims[random.below(rank)] = random.below(9) as i64,
        3 => tensor.dims.push(*random.pick(&[0, 1, 2, -1, 1 << 40])),
        _ => {
            if let Some(raw) = &tensor.raw_data {
                let mut raw = raw.to_vec();
                change_bytes(&mut raw, &[0xff; 16], random);
                tensor.raw_data = Some(Bytes::from(raw));
            } else {
                tensor.int64_data.push(*random.pick(&EXTREMES));
            }
        }
    }
}

/// Damage of an artifact's sections, or of its graph's text within their bounds. `examine` signs it besides.
fn artifact(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let graph = seed.windows(7).position(|w| w == b"kiln 1\n");
    let end = graph.and_then(|start| seed[start..].iter().position(|&b| b == 0).map(|len| start + len));
    let (Some(start), Some(end)) = (graph, end) else { return bytes(seed, other, random) };
    match random.below(3) {
        0 => bytes(seed, other, random),
        1 => {
            // The text may change its length by what its padding allows; longer texts are cut.
            let mut new = text(&seed[start..end], &seed[start..end], random);
            new.resize(end - start, b' ');
            let mut out = seed.to_vec();
            out[start..end].copy_from_slice(&new);
            sign(&mut out);
            out
        }
        _ => {
            let mut out = seed.to_vec();
            // The structured sections: everything before the weights, which are last and of which no byte matters much.
            let last = random.below(seed.len() - 128) + 128;
            for _ in 0..1 + random.below(3) {
                let at = 128 + random.below(last.max(129) - 128);
                let value = *random.pick(&EXTREMES) as u8;
                out[at] = if random.one_in(2) { value } else { out[at] ^ (1 << random.below(8)) };
            }
            sign(&mut out);
            out
        }
    }
}

/// A changed header of the length that the file says.
fn npy(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let start = 10.min(seed.len());
    let end = seed.iter().position(|&b| b == b'\n').map_or(seed.len(), |at| at + 1).max(start);
    let header = text(&seed[start..end], b"'>f8' True (3, 4) 'x'", random);
    let mut out = seed[..start].to_vec();
    if let (Some(field), Ok(len)) = (out.get_mut(8..10), u16::try_from(header.len())) {
        field.copy_from_slice(&len.to_le_bytes());
    }
    out.extend_from_slice(&header);
    out.extend_from_slice(&seed[end..]);
    out
}

/// An archive around damaged arrays, with right checksums.
fn npz(seed: &[u8], random: &mut Random) -> Vec<u8> {
    use std::io::{Read, Write};
    let Ok(mut archive) = zip::ZipArchive::new(std::io::Cursor::new(seed)) else { return bytes(seed, seed, random) };
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for index in 0..archive.len() {
        let mut array = Vec::new();
        let Ok(mut entry) = archive.by_index(index) else { continue };
        let name = entry.name().map(|n| n.into_owned()).unwrap_or_default();
        if entry.read_to_end(&mut array).is_err() {
            continue;
        }
        if random.one_in(2) {
            array = if random.one_in(2) { npy(&array, random) } else { bytes(&array, &array.clone(), random) };
        }
        let method = if random.one_in(2) { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        let written = out.start_file(name, options).map_err(|e| e.to_string());
        if written.is_err() || out.write_all(&array).is_err() {
            break;
        }
    }
    match out.finish() {
        Ok(done) if random.one_in(3) => bytes(done.get_ref(), seed, random),
        Ok(done) => done.into_inner(),
        Err(_) => seed.to_vec(),
    }
}

/// A changed header with the right length before it.
fn safetensors(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let split = |file: &[u8]| -> Option<(Vec<u8>, Vec<u8>)> {
        let len = usize::try_from(u64::from_le_bytes(file.get(..8)?.try_into().ok()?)).ok()?;
        let end = len.checked_add(8)?;
        Some((file.get(8..end)?.to_vec(), file.get(end..)?.to_vec()))
    };
    let (Some((header, data)), Some((foreign, _))) = (split(seed), split(other)) else {
        return bytes(seed, other, random);
    };
    let header = text(&header, &foreign, random);
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(&header);
    out.extend_from_slice(&data);
    out
}
