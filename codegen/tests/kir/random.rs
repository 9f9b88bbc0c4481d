//! Random kernels.

use kiln_codegen::kir::*;

/// A source of decisions; once it is exhausted every decision is 0, so that shorter sources give simpler kernels.
pub struct Choices {
    words: Vec<u32>,
    at: usize,
}

impl Choices {
    pub fn new(words: Vec<u32>) -> Choices {
        Choices { words, at: 0 }
    }

    fn word(&mut self) -> u32 {
        self.at += 1;
        self.words.get(self.at - 1).copied().unwrap_or(0)
    }

    fn below(&mut self, n: usize) -> usize {
        self.word() as usize % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const DTYPES: [DType; 9] =
    [DType::F32, DType::I32, DType::F64, DType::I64, DType::I8, DType::U8, DType::Bool, DType::F16, DType::BF16];
/// Elements of every buffer.
const LEN: i64 = 4096;

struct Generator {
    choices: Choices,
    b: KernelBuilder,
    inputs: Vec<Buffer>,
    outputs: Vec<Buffer>,
    /// Next free element of every output.
    next: Vec<i64>,
    vars: Vec<(Var, i64)>,
    /// Values in scope.
    pool: Vec<Value>,
    budget: usize,
}

/// A random kernel that reads one buffer of every dtype and writes its values to one of every dtype.
pub fn random_kernel(words: Vec<u32>) -> Kernel {
    let mut b = KernelBuilder::new("random");
    let inputs = DTYPES.iter().map(|&d| b.input(format!("in_{d}"), d, LEN)).collect();
    let outputs = DTYPES.iter().map(|&d| b.output(format!("out_{d}"), d, LEN)).collect();
    let mut g = Generator {
        choices: Choices::new(words),
        b,
        inputs,
        outputs,
        next: vec![0; DTYPES.len()],
        vars: Vec::new(),
        pool: Vec::new(),
        budget: 40,
    };
    for _ in 0..g.choices.below(3) {
        let extent = 1 + g.choices.below(3) as i64;
        let var = g.b.parallel(extent);
        g.vars.push((var, extent));
    }
    g.block(0);
    g.b.finish().expect("the generator makes well-formed kernels")
}

impl Generator {
    fn block(&mut self, depth: usize) {
        let scope = self.pool.len();
        for _ in 0..2 + self.choices.below(8) {
            if self.budget == 0 {
                break;
            }
            self.budget -= 1;
            match self.choices.below(12) {
                0 if depth < 3 => self.for_loop(depth),
                1 if depth < 3 => self.conditional(depth),
                _ => self.instruction(),
            }
        }
        // everything that this block computed becomes visible
        for value in self.pool.split_off(scope) {
            self.store(value);
        }
        self.pool.truncate(scope);
    }

    fn dtype_at(&self, dtype: DType) -> usize {
        DTYPES.iter().position(|&d| d == dtype).unwrap()
    }

    /// An index that differs between iterations, with room for `reach` elements after it.
    fn input_index(&mut self, reach: i64) -> Index {
        let mut index = Index::constant(self.choices.below(64) as i64 + reach);
        for (var, extent) in self.vars.clone() {
            let step = (self.choices.below(9) as i64 - 2).max(-1);
            // A loop that runs backwards begins as much further on.
            index = index + var * step + if step < 0 { extent } else { 0 };
        }
        index
    }

    fn store(&mut self, value: Value) {
        let ty = self.b.type_of(value);
        let stride = if self.choices.below(4) == 0 { 2 } else { 1 };
        let at = self.dtype_at(ty.dtype);
        let room = i64::from(ty.lanes) * stride;
        let mut index = Index::default();
        let mut size = room;
        for &(var, extent) in self.vars.iter().rev() {
            index = index + var * size;
            size *= extent;
        }
        let base = self.next[at];
        if base + size > LEN {
            return;
        }
        self.next[at] += size;
        self.b.store_strided(self.outputs[at], index + base, stride, value);
    }

    fn lanes(&mut self) -> u32 {
        self.choices.pick(&[4, 8, 1, 3, 16, 7, 2, 12, 5, 32, 64, 33])
    }

    fn load(&mut self, dtype: DType, lanes: u32) -> Value {
        let buffer = self.inputs[self.dtype_at(dtype)];
        let value = match self.choices.below(if dtype == DType::I32 { 8 } else { 6 }) {
            6 | 7 => {
                let stride = self.choices.pick(&[4, 0, 1, 7]);
                let index = self.input_index(0);
                let bytes = self.inputs[self.dtype_at(DType::I8)];
                self.b.load_words(bytes, index, stride, lanes)
            }
            0 => {
                let index = self.input_index(0);
                self.b.load_splat(buffer, index, lanes)
            }
            1 => {
                let stride = self.choices.pick(&[3, -2, 5]);
                let index = self.input_index(2 * 64);
                self.b.load_strided(buffer, index, stride, lanes)
            }
            2 => {
                let offsets = self.load_offsets(lanes);
                let index = self.input_index(0);
                self.b.gather(buffer, index, offsets, 100)
            }
            3 => {
                let offset = self.load_offsets(1);
                let index = self.input_index(0) + Index::dynamic(offset, 100) * 3;
                self.b.load(buffer, index, lanes)
            }
            _ => {
                let index = self.input_index(0);
                self.b.load(buffer, index, lanes)
            }
        };
        self.pool.push(value);
        value
    }

    /// Random `i64`s clamped to 0..100.
    fn load_offsets(&mut self, lanes: u32) -> Value {
        let index = self.input_index(0);
        let raw = self.b.load(self.inputs[3], index, lanes);
        let ty = self.b.type_of(raw);
        let (low, high) = (self.b.constant_int(ty, 0), self.b.constant_int(ty, 99));
        let raised = self.b.max(low, raw);
        self.b.min(high, raised)
    }

    /// A value in scope of some type, loaded where there is none.
    fn some(&mut self, suits: impl Fn(VType) -> bool, fallback: VType) -> Value {
        let fitting: Vec<Value> = self.pool.iter().copied().filter(|&v| suits(self.b.type_of(v))).collect();
        match fitting.is_empty() {
            true => self.load(fallback.dtype, fallback.lanes),
            false => self.choices.pick(&fitting),
        }
    }

    fn some_of(&mut self, ty: VType) -> Value {
        if self.choices.below(3) == 0 {
            return self.load(ty.dtype, ty.lanes);
        }
        self.some(|t| t == ty, ty)
    }

    fn instruction(&mut self) {
        use DType::*;
        let lanes = self.lanes();
        let value = match self.choices.below(15) {
            0 | 1 => {
                let dtype = self.choices.pick(&DTYPES);
                self.load(dtype, lanes);
                return;
            }
            2 => {
                let dtype = self.choices.pick(&[F32, F64]);
                let x = self.some(|t| t.dtype == dtype, VType::new(dtype, lanes));
                use UnaryOp::*;
                let op = self.choices.pick(&[Neg, Abs, Sqrt, Floor, Ceil, Trunc, Round]);
                self.b.unary(op, x)
            }
            3 => {
                let dtype = self.choices.pick(&[I32, I64, I8, U8]);
                let x = self.some(|t| t.dtype == dtype, VType::new(dtype, lanes));
                let op = self.choices.pick(&[UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Not]);
                self.b.unary(op, x)
            }
            4 | 5 => {
                let dtype = self.choices.pick(&[F32, F64]);
                let x = self.some(|t| t.dtype == dtype, VType::new(dtype, lanes));
                let y = self.some_of(self.b.type_of(x));
                use BinaryOp::*;
                let op = self.choices.pick(&[Add, Sub, Mul, Div, Min, Max]);
                match self.choices.below(4) {
                    0 => {
                        let z = self.some_of(self.b.type_of(x));
                        self.b.fma(x, y, z)
                    }
                    1 => {
                        let constant = self.b.constant(self.b.type_of(x), 0.0);
                        self.b.binary(op, constant, y)
                    }
                    _ => self.b.binary(op, x, y),
                }
            }
            6 | 7 => {
                let dtype = self.choices.pick(&[I32, I64, I8, U8]);
                let x = self.some(|t| t.dtype == dtype, VType::new(dtype, lanes));
                let ty = self.b.type_of(x);
                use BinaryOp::*;
                let op = self.choices.pick(&[Add, Sub, Mul, Div, Rem, Min, Max, And, Or, Xor, Shl, Shr, ShrLogical]);
                let y = match self.choices.below(3) {
                    0 => {
                        let amount = self.choices.below(70) as i64 - 3;
                        self.b.constant_int(ty, amount)
                    }
                    _ => self.some_of(ty),
                };
                self.b.binary(op, x, y)
            }
            8 => {
                let x = self.some(|t| !matches!(t.dtype, F16 | BF16 | Bool), VType::new(F32, lanes));
                let y = self.some_of(self.b.type_of(x));
                use CompareOp::*;
                let op = self.choices.pick(&[Eq, Ne, Lt, Le, Gt, Ge]);
                let mask = self.b.compare(op, x, y);
                self.pool.push(mask);
                let (a, c) = {
                    let dtype = self.choices.pick(&DTYPES);
                    let ty = self.b.type_of(mask).with_dtype(dtype);
                    (self.some_of(ty), self.some_of(ty))
                };
                self.b.select(mask, a, c)
            }
            9 => {
                let x = self.some(|t| t.dtype == Bool, VType::new(Bool, lanes));
                let y = self.some_of(self.b.type_of(x));
                match self.choices.below(6) {
                    0 => self.b.and(x, y),
                    1 => self.b.or(x, y),
                    2 => self.b.xor(x, y),
                    3 => self.b.compare(CompareOp::Eq, x, y),
                    4 => self.b.compare(CompareOp::Ne, x, y),
                    _ => self.b.not(x),
                }
            }
            10 | 11 => {
                let x = self.some(|_| true, VType::new(F32, lanes));
                let to = self.choices.pick(&DTYPES);
                let from = self.b.type_of(x).dtype;
                match (from, to) {
                    (F32, I32) | (I32, F32) | (F64, I64) | (I64, F64) | (I8, U8) | (U8, I8)
                        if self.choices.below(2) == 0 =>
                    {
                        self.b.bitcast(x, to)
                    }
                    _ => self.b.convert(x, to),
                }
            }
            12 => {
                let x = self.some(|t| !matches!(t.dtype, F16 | BF16 | Bool), VType::new(F32, lanes));
                use ReduceOp::*;
                let op = match self.b.type_of(x).dtype.is_float() {
                    true => self.choices.pick(&[Add, Mul, Min, Max]),
                    false => self.choices.pick(&[Add, Mul, Min, Max, And, Or]),
                };
                let sum = self.b.reduce(op, x);
                self.pool.push(sum);
                self.b.splat(sum, lanes)
            }
            13 => {
                let x = self.some(|t| t.dtype == I32, VType::new(I32, lanes));
                let ty = self.b.type_of(x);
                let (y, z) = (self.some_of(ty), self.some_of(ty));
                self.b.dot_bytes(x, y, z)
            }
            _ => match self.choices.below(3) {
                0 => {
                    let index = self.input_index(0);
                    let step = self.choices.below(5) as i64 - 2;
                    self.b.iota(index, step, lanes)
                }
                1 => {
                    let x = self.some(|_| true, VType::new(F32, lanes));
                    let n = self.b.type_of(x).lanes as usize;
                    let (kind, distance) = (self.choices.below(4), self.choices.below(16));
                    let pattern = (0..lanes as usize)
                        .map(|i| match kind {
                            0 => n - 1 - i % n,
                            1 => (i ^ distance) % n,
                            // the same of every four, or fours
                            2 => (i / 4 * 4 + (distance >> (i % 4)) % 4) % n,
                            _ => self.choices.below(n),
                        } as u32)
                        .collect();
                    self.b.shuffle(x, pattern)
                }
                _ => {
                    let x = self.some(|t| t.lanes <= 16, VType::new(F32, 3));
                    let dtype = self.b.type_of(x).dtype;
                    let y = self.some(|t| t.dtype == dtype && t.lanes <= 16, VType::new(dtype, 4));
                    self.b.concat(&[x, y])
                }
            },
        };
        self.pool.push(value);
    }

    fn for_loop(&mut self, depth: usize) {
        let extent = self.choices.pick(&[2, 3, 1, 0]);
        let kind = self.choices.pick(&[LoopKind::Serial, LoopKind::Unrolled]);
        let init: Vec<Value> =
            (0..self.choices.below(4)).map(|_| self.some(|_| true, VType::new(DType::F32, 8))).collect();
        let mut b = std::mem::replace(&mut self.b, KernelBuilder::new("hole"));
        let results = b.loop_of(kind, extent, &init, |b, var, carried| {
            std::mem::swap(&mut self.b, b);
            let scope = self.pool.len();
            self.vars.push((var, extent.max(1)));
            self.pool.extend_from_slice(carried);
            let types: Vec<VType> = carried.iter().map(|&v| self.b.type_of(v)).collect();
            self.block(depth + 1);
            let yields: Vec<Value> = types.iter().map(|&ty| self.some_of(ty)).collect();
            self.pool.truncate(scope);
            self.vars.pop();
            std::mem::swap(&mut self.b, b);
            yields
        });
        self.b = b;
        self.pool.extend(results);
    }

    fn conditional(&mut self, depth: usize) {
        let condition = match (self.choices.below(2), self.vars.last()) {
            (0, Some(&(var, _))) => {
                let other = self.vars[0].0;
                Condition::NonNegative(vec![var - 1, Index::constant(2) - other])
            }
            _ => Condition::Value(self.some_of(VType::scalar(DType::Bool))),
        };
        let types: Vec<VType> = (0..self.choices.below(3))
            .map(|_| {
                let dtype = self.choices.pick(&DTYPES);
                VType::new(dtype, self.lanes())
            })
            .collect();
        let mut b = std::mem::replace(&mut self.b, KernelBuilder::new("hole"));
        let this = std::cell::RefCell::new(self);
        let branch = |b: &mut KernelBuilder| {
            let this = &mut **this.borrow_mut();
            std::mem::swap(&mut this.b, b);
            let scope = this.pool.len();
            this.block(depth + 1);
            let yields: Vec<Value> = types.iter().map(|&ty| this.some_of(ty)).collect();
            this.pool.truncate(scope);
            std::mem::swap(&mut this.b, b);
            yields
        };
        let results = b.if_else(condition, branch, branch);
        let this = this.into_inner();
        this.b = b;
        this.pool.extend(results);
    }
}
