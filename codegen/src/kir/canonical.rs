//! Kernels modulo names: what may share machine code.

use std::collections::HashMap;

use super::index::{Index, Var};
use super::kernel::{Block, Kernel, Statement, Value};

impl Kernel {
    /// The same kernel without names, its values and variables numbered in order of appearance. Two kernels with
    /// equal canonical forms have the same machine code; `Kernel` is `Eq` and `Hash`, so a map can share it.
    ///
    /// The kernel must have passed the verifier; one that has not gives some kernel of no use.
    pub fn canonical(&self) -> Kernel {
        let mut kernel = self.clone();
        kernel.name.clear();
        kernel.buffers.iter_mut().for_each(|b| b.name.clear());
        kernel.scratch.iter_mut().for_each(|b| b.name.clear());
        let mut renumber = Renumber { source: self, values: HashMap::new(), vars: HashMap::new() };
        kernel.vars.clear();
        kernel.values.clear();
        kernel.parallel.iter_mut().for_each(|var| renumber.define_var(var, &mut kernel.vars));
        let mut body = std::mem::take(&mut kernel.body);
        renumber.block(&mut body, &mut kernel);
        kernel.body = body;
        kernel
    }
}

struct Renumber<'k> {
    source: &'k Kernel,
    values: HashMap<Value, Value>,
    vars: HashMap<Var, Var>,
}

impl Renumber<'_> {
    fn define_var(&mut self, var: &mut Var, vars: &mut Vec<i64>) {
        let new = Var(vars.len() as u32);
        vars.push(self.source.extent(*var));
        self.vars.insert(*var, new);
        *var = new;
    }

    fn define(&mut self, value: &mut Value, kernel: &mut Kernel) {
        let new = Value(kernel.values.len() as u32);
        kernel.values.extend(self.source.values.get(value.0 as usize));
        self.values.insert(*value, new);
        *value = new;
    }

    fn operand(&self, value: &mut Value) {
        *value = self.values.get(value).copied().unwrap_or(*value);
    }

    fn variables(&self, index: &mut Index) {
        for (var, _) in &mut index.terms {
            *var = self.vars.get(var).copied().unwrap_or(*var);
        }
        index.terms.sort_unstable();
    }

    fn block(&mut self, block: &mut Block, kernel: &mut Kernel) {
        for statement in &mut block.statements {
            statement.indices_mut(|index| self.variables(index));
            statement.operands_mut(|value| self.operand(value));
            match statement {
                Statement::Let(value, _) => self.define(value, kernel),
                Statement::Store { .. } | Statement::Scatter { .. } | Statement::Prefetch { .. } => {}
                Statement::For(inner) => {
                    self.define_var(&mut inner.var, &mut kernel.vars);
                    inner.carried.iter_mut().for_each(|c| self.define(&mut c.param, kernel));
                    self.block(&mut inner.body, kernel);
                    inner.carried.iter_mut().for_each(|c| self.define(&mut c.result, kernel));
                }
                Statement::If(inner) => {
                    self.block(&mut inner.then, kernel);
                    self.block(&mut inner.otherwise, kernel);
                    inner.results.iter_mut().for_each(|v| self.define(v, kernel));
                }
            }
        }
        block.yields.iter_mut().for_each(|v| self.operand(v));
    }
}
