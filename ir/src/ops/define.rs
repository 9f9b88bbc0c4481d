//! The macro behind the op table: one row an op.

/// Defines `enum Op` and all that follows from the rows: mnemonics, docs, attributes, metadata.
macro_rules! define_ops {
    ($(
        $(#[doc = $doc:literal])*
        $level:ident $variant:ident = $mnemonic:literal ($($operand:ident),* $(; $variadic:ident)?) {
            $( $(#[doc = $adoc:literal])* $attr:ident : $ty:ty $(= $default:expr)? ),* $(,)?
        }
        $(scalar $formula:literal)?
        $([ $($label:literal : $constraint:literal),* $(,)? ])?
    ;)*) => {
        /// An operation with its attributes. Made by the op table; see `docs/ops.md`.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Op {
            $( $(#[doc = $doc])* $variant { $( $(#[doc = $adoc])* $attr: $ty ),* } ),*
        }

        /// The rows of the op table, in order.
        pub static ROWS: &[Row] = &[ $( Row {
            mnemonic: $mnemonic,
            level: Level::$level,
            doc: &[$($doc),*],
            operands: &[$(stringify!($operand)),*],
            variadic: first(&[$(stringify!($variadic))?]),
            attributes: &[$( AttributeRow {
                name: stringify!($attr),
                doc: &[$($adoc),*],
                expected: <$ty as AttributeType>::EXPECTED,
                default: || {
                    #[allow(unused_mut, unused_assignments)]
                    let mut value: Option<Attribute> = None;
                    $( let default: $ty = $default; value = Some(default.to_attribute()); )?
                    value
                },
            } ),*],
            formula: first(&[$($formula)?]),
            constraints: &[$($(($label, $constraint)),*)?],
        } ),* ];

        impl Op {
            /// The op's row in the table.
            pub fn row(&self) -> &'static Row {
                #[allow(non_camel_case_types, clippy::enum_variant_names)]
                enum Index { $($variant),* }
                let index = match self { $( Op::$variant { .. } => Index::$variant as usize ),* };
                &ROWS[index]
            }

            /// Attribute names and values, in the table's order.
            pub fn attributes(&self) -> Vec<(&'static str, Attribute)> {
                match self {
                    $( Op::$variant { $($attr),* } => vec![$((stringify!($attr), $attr.to_attribute())),*] ),*
                }
            }

            /// The op with the symbolic dims in its attributes that `bindings` names replaced by their extents.
            #[allow(unused_variables)] // Ops without attributes.
            pub fn bind(&self, bindings: &BTreeMap<String, usize>) -> Op {
                match self {
                    $( Op::$variant { $($attr),* } => Op::$variant { $($attr: $attr.bind(bindings)),* } ),*
                }
            }

            /// The op that `mnemonic` names with `given` attributes; defaults fill what is missing.
            /// Unknown, missing and ill-typed attributes are all reported.
            pub fn from_attributes(mnemonic: &str, given: &[(String, Attribute)]) -> Result<Op, Vec<AttributeError>> {
                match mnemonic {
                    $( $mnemonic => {
                        #[allow(unused_mut)]
                        let mut reader = AttributeReader::new(mnemonic, given);
                        $(
                            #[allow(unused_mut, unused_assignments)]
                            let mut $attr: Option<$ty> = None;
                            $( $attr = Some($default); )?
                            let $attr: Option<$ty> = reader.take(stringify!($attr), $attr);
                        )*
                        reader.finish()?;
                        match ($($attr,)*) {
                            #[allow(unreachable_patterns)]
                            ($(Some($attr),)*) => Ok(Op::$variant { $($attr),* }),
                            #[allow(unreachable_patterns)]
                            _ => Err(Vec::new()),
                        }
                    } )*
                    _ => Err(vec![AttributeError::UnknownOp { mnemonic: mnemonic.to_owned() }]),
                }
            }
        }
    };
}

pub(super) use define_ops;
