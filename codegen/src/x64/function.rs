//! A function of machine instructions: what the register allocator sees.

use std::collections::HashMap;

use regalloc2::{Block, Inst as Index, InstRange, MachineEnv, Operand, PReg, PRegSet, RegClass, VReg};

use super::inst::{Base, Flow, Goto, Inst, Label, Mem, regs};
use super::isa::Isa;

/// Vectors: class `Float`. Masks: class `Vector`, which is only a name here.
pub(super) const VECTOR: RegClass = RegClass::Float;
/// See [`VECTOR`].
pub(super) const MASK: RegClass = RegClass::Vector;

#[derive(Debug, Default)]
struct Building {
    insts: Vec<Inst>,
    params: Vec<VReg>,
}

/// A function that is being built, block by block.
#[derive(Debug)]
pub(super) struct Builder {
    isa: Isa,
    blocks: Vec<Building>,
    order: Vec<Label>,
    current: usize,
    /// Instructions that run once, before everything else but the arguments.
    prologue: Vec<Inst>,
    classes: Vec<RegClass>,
    pool: Pool,
    frame_bytes: u32,
    comments: Vec<(u32, usize, String)>,
}

/// Constants beside the code.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Their bytes; the first is aligned to 64.
    pub bytes: Vec<u8>,
    known: HashMap<Vec<u8>, u32>,
}

impl Pool {
    /// The offset of a constant, aligned to its size (a power of two up to 64).
    fn place(&mut self, bytes: &[u8]) -> u32 {
        if let Some(&at) = self.known.get(bytes) {
            return at;
        }
        let at = self.bytes.len().next_multiple_of(bytes.len().max(1));
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(bytes);
        self.known.insert(bytes.to_vec(), at as u32);
        at as u32
    }
}

impl Builder {
    /// An empty function.
    pub fn new(isa: Isa) -> Builder {
        Builder {
            isa,
            blocks: Vec::new(),
            order: Vec::new(),
            current: 0,
            prologue: Vec::new(),
            classes: Vec::new(),
            pool: Pool::default(),
            frame_bytes: 0,
            comments: Vec::new(),
        }
    }

    /// A virtual register.
    pub fn reg(&mut self, class: RegClass) -> VReg {
        self.classes.push(class);
        VReg::new(self.classes.len() - 1, class)
    }

    /// A block, to be filled later.
    pub fn block(&mut self) -> Label {
        self.blocks.push(Building::default());
        Label(self.blocks.len() as u32 - 1)
    }

    /// A value that a block takes.
    pub fn param(&mut self, block: Label, class: RegClass) -> VReg {
        let reg = self.reg(class);
        self.blocks[block.0 as usize].params.push(reg);
        reg
    }

    /// Fills a block from here on; each block once.
    pub fn fill(&mut self, block: Label) {
        self.order.push(block);
        self.current = block.0 as usize;
    }

    /// Appends an instruction.
    pub fn push(&mut self, inst: Inst) {
        self.blocks[self.current].insts.push(inst);
    }

    /// Adds an instruction that runs once, at the start of the function.
    pub fn push_prologue(&mut self, inst: Inst) {
        self.prologue.push(inst);
    }

    /// Goes to a block.
    pub fn jump(&mut self, to: Label, args: Vec<VReg>) {
        self.push(Inst::control(Flow::Jump(Goto { to, args })));
    }

    /// Says what the next instruction belongs to, for listings.
    pub fn comment(&mut self, text: String) {
        let block = self.current;
        self.comments.push((block as u32, self.blocks[block].insts.len(), text));
    }

    /// A constant's place.
    pub fn constant(&mut self, bytes: &[u8]) -> Mem {
        let disp = self.pool.place(bytes) as i32;
        Mem { base: Base::Pool, index: None, disp, broadcast: false }
    }

    /// Makes the frame's working part at least so large.
    pub fn reserve_frame(&mut self, bytes: u32) {
        self.frame_bytes = self.frame_bytes.max(bytes);
    }

    /// The function, its blocks numbered in the order in which they were filled.
    pub fn finish(mut self) -> Function {
        let mut number = vec![0u32; self.blocks.len()];
        for (at, label) in self.order.iter().enumerate() {
            number[label.0 as usize] = at as u32;
        }
        let mut function = Function {
            isa: self.isa,
            insts: Vec::new(),
            operands: Vec::new(),
            ranges: Vec::new(),
            blocks: Vec::new(),
            classes: self.classes,
            pool: self.pool.bytes,
            frame_bytes: self.frame_bytes,
            comments: Vec::new(),
        };
        for (at, &label) in self.order.iter().enumerate() {
            let block = std::mem::take(&mut self.blocks[label.0 as usize]);
            let start = function.insts.len();
            let mut insts = block.insts;
            let shift = if at == 0 { self.prologue.len() } else { 0 };
            if at == 0 {
                // after the arguments
                insts.splice(1..1, std::mem::take(&mut self.prologue));
            }
            for mut inst in insts {
                inst.flow = match inst.flow {
                    Flow::Jump(goto) => Flow::Jump(Goto { to: Label(number[goto.to.0 as usize]), args: goto.args }),
                    Flow::Branch(flag, yes, no) => {
                        Flow::Branch(flag, Label(number[yes.0 as usize]), Label(number[no.0 as usize]))
                    }
                    other => other,
                };
                let first = function.operands.len() as u32;
                inst.operands(&mut function.operands);
                function.ranges.push((first, function.operands.len() as u32));
                function.insts.push(inst);
            }
            for (owner, offset, text) in &self.comments {
                if *owner == label.0 {
                    function.comments.push((start + shift + offset, text.clone()));
                }
            }
            function.blocks.push(BasicBlock {
                range: InstRange::new(Index::new(start), Index::new(function.insts.len())),
                params: block.params,
                successors: Vec::new(),
                predecessors: Vec::new(),
            });
        }
        for at in 0..function.blocks.len() {
            let last = function.blocks[at].range.last().index();
            let to: Vec<Block> = match &function.insts[last].flow {
                Flow::Jump(goto) => vec![Block::new(goto.to.0 as usize)],
                Flow::Branch(_, yes, no) => vec![Block::new(yes.0 as usize), Block::new(no.0 as usize)],
                Flow::Next | Flow::Arguments | Flow::Return => Vec::new(),
            };
            for successor in &to {
                function.blocks[successor.index()].predecessors.push(Block::new(at));
            }
            function.blocks[at].successors = to;
        }
        function
    }
}

/// A basic block of a finished function.
#[derive(Debug)]
pub(super) struct BasicBlock {
    /// Its instructions.
    pub range: InstRange,
    params: Vec<VReg>,
    successors: Vec<Block>,
    predecessors: Vec<Block>,
}

/// A finished function.
#[derive(Debug)]
pub(super) struct Function {
    /// What its vector instructions are.
    pub isa: Isa,
    /// Instructions of all blocks.
    pub insts: Vec<Inst>,
    operands: Vec<Operand>,
    ranges: Vec<(u32, u32)>,
    /// Blocks in the order of emission; the first is the entry.
    pub blocks: Vec<BasicBlock>,
    classes: Vec<RegClass>,
    /// Constants.
    pub pool: Vec<u8>,
    /// Bytes of the frame's working part.
    pub frame_bytes: u32,
    /// What the instruction of an index belongs to.
    pub comments: Vec<(usize, String)>,
}

impl regalloc2::Function for Function {
    fn num_insts(&self) -> usize {
        self.insts.len()
    }

    fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn entry_block(&self) -> Block {
        Block::new(0)
    }

    fn block_insns(&self, block: Block) -> InstRange {
        self.blocks[block.index()].range
    }

    fn block_succs(&self, block: Block) -> &[Block] {
        &self.blocks[block.index()].successors
    }

    fn block_preds(&self, block: Block) -> &[Block] {
        &self.blocks[block.index()].predecessors
    }

    fn block_params(&self, block: Block) -> &[VReg] {
        &self.blocks[block.index()].params
    }

    fn is_ret(&self, inst: Index) -> bool {
        self.insts[inst.index()].flow == Flow::Return
    }

    fn is_branch(&self, inst: Index) -> bool {
        matches!(self.insts[inst.index()].flow, Flow::Jump(_) | Flow::Branch(..))
    }

    fn branch_blockparams(&self, _: Block, inst: Index, _: usize) -> &[VReg] {
        match &self.insts[inst.index()].flow {
            Flow::Jump(goto) => &goto.args,
            _ => &[],
        }
    }

    fn inst_operands(&self, inst: Index) -> &[Operand] {
        let (first, end) = self.ranges[inst.index()];
        &self.operands[first as usize..end as usize]
    }

    fn inst_clobbers(&self, _: Index) -> PRegSet {
        PRegSet::empty()
    }

    fn num_vregs(&self) -> usize {
        self.classes.len()
    }

    fn spillslot_size(&self, class: RegClass) -> usize {
        match class {
            VECTOR => self.isa.widest().bytes() as usize / 8,
            _ => 1,
        }
    }
}

/// Registers that may be allocated: all vectors, all masks that hold booleans, and all general registers but the stack and
/// frame pointers.
pub(super) fn machine_env(isa: Isa) -> MachineEnv {
    let set = |class, numbers: &mut dyn Iterator<Item = usize>| {
        numbers.fold(PRegSet::empty(), |set, number| set.with(PReg::new(number, class)))
    };
    MachineEnv {
        preferred_regs_by_class: [
            set(RegClass::Int, &mut regs::SCRATCH.into_iter()),
            set(VECTOR, &mut (0..isa.registers())),
            set(MASK, &mut isa.masks()),
        ],
        non_preferred_regs_by_class: [
            set(RegClass::Int, &mut regs::SAVED.into_iter()),
            PRegSet::empty(),
            PRegSet::empty(),
        ],
        scratch_by_class: [None, None, None],
        fixed_stack_slots: Vec::new(),
    }
}
