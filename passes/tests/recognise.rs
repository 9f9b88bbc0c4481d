//! Composites that exporters spell out in primitives, and near misses.

mod common;

use common::{Case, check, check_silent};

const N: &str = "(%x: f32[3, 4]) -> (%y: f32[3, 4])";

/// Layer normalisation as exporters write it, with this epsilon, over the last axis.
const LAYER_NORM: &str = "%s = reduce %x {axes = [1], reducer = sum}
%t = reshape %s : f32[3, 1]
%n = constant dense<4.0> : f32[3, 1]
%m = div %t, %n
%b = broadcast %m {axes = [0, 1]} : f32[3, 4]
%d = sub %x, %b
%two = constant dense<2.0> : f32[3, 4]
%q = pow %d, %two
%s2 = reduce %q {axes = [1], reducer = sum}
%t2 = reshape %s2 : f32[3, 1]
%v = div %t2, %n
%e = constant dense<0.001> : f32[3, 1]
%w = add %v, %e
%r = sqrt %w
%u = broadcast %r {axes = [0, 1]} : f32[3, 4]
%z = div %d, %u
";

const CASES: &[Case] = &[
    Case {
        rule: "recognise_sigmoid",
        signature: N,
        before: "%a = neg %x\n%b = exp %a\n%c = constant dense<1.0> : f32[3, 4]\n%d = add %b, %c\n%y = div %c, %d",
        after: "%y = sigmoid %x",
    },
    Case {
        rule: "recognise_softplus",
        signature: N,
        before: "%b = exp %x\n%c = constant dense<1.0> : f32[3, 4]\n%d = add %c, %b\n%y = log %d",
        after: "%y = softplus %x",
    },
    Case {
        rule: "recognise_gelu",
        signature: N,
        before: "%k = constant dense<1.4142135> : f32[3, 4]\n%a = div %x, %k\n%b = erf %a\n%one = constant dense<1.0> : f32[3, 4]\n%c = add %b, %one\n%d = mul %x, %c\n%h = constant dense<0.5> : f32[3, 4]\n%y = mul %d, %h",
        after: "%y = gelu %x",
    },
    Case {
        rule: "recognise_gelu",
        signature: N,
        before: "%k = constant dense<0.70710677> : f32[3, 4]\n%a = mul %k, %x\n%b = erf %a\n%one = constant dense<1.0> : f32[3, 4]\n%c = add %one, %b\n%h = constant dense<0.5> : f32[3, 4]\n%d = mul %h, %x\n%y = mul %c, %d",
        after: "%y = gelu %x",
    },
    Case {
        rule: "recognise_gelu_tanh",
        signature: N,
        before: "%three = constant dense<3.0> : f32[3, 4]\n%p = pow %x, %three\n%k = constant dense<0.044715> : f32[3, 4]\n%a = mul %k, %p\n%b = add %x, %a\n%l = constant dense<0.7978846> : f32[3, 4]\n%c = mul %b, %l\n%t = tanh %c\n%one = constant dense<1.0> : f32[3, 4]\n%d = add %t, %one\n%h = constant dense<0.5> : f32[3, 4]\n%e = mul %x, %h\n%y = mul %e, %d",
        after: "%y = gelu_tanh %x",
    },
    Case { rule: "recognise_silu", signature: N, before: "%a = sigmoid %x\n%y = mul %a, %x", after: "%y = silu %x" },
    Case {
        rule: "recognise_hard_swish",
        signature: N,
        before: "%three = constant dense<3.0> : f32[3, 4]\n%a = add %x, %three\n%b = clip %a {min = 0.0, max = 6.0}\n%c = mul %x, %b\n%six = constant dense<6.0> : f32[3, 4]\n%y = div %c, %six",
        after: "%y = hard_swish %x",
    },
    Case {
        rule: "recognise_hard_swish",
        signature: N,
        before: "%three = constant dense<3.0> : f32[3, 4]\n%a = add %x, %three\n%zero = constant dense<0.0> : f32[3, 4]\n%b = maximum %a, %zero\n%six = constant dense<6.0> : f32[3, 4]\n%c = minimum %b, %six\n%d = div %c, %six\n%y = mul %x, %d",
        after: "%y = hard_swish %x",
    },
    Case {
        rule: "recognise_hard_swish",
        signature: N,
        before: "%a = hard_sigmoid %x {alpha = 0.16666667}\n%y = mul %x, %a",
        after: "%y = hard_swish %x",
    },
    Case {
        rule: "recognise_mish",
        signature: N,
        before: "%a = softplus %x\n%b = tanh %a\n%y = mul %x, %b",
        after: "%y = mish %x",
    },
    Case {
        rule: "recognise_softmax",
        signature: N,
        before: "%m = reduce %x {axes = [1], reducer = max}\n%k = reshape %m : f32[3, 1]\n%b = broadcast %k {axes = [0, 1]} : f32[3, 4]\n%d = sub %x, %b\n%e = exp %d\n%s = reduce %e {axes = [1], reducer = sum}\n%t = broadcast %s {axes = [0]} : f32[3, 4]\n%y = div %e, %t",
        after: "%y = softmax %x {axis = 1}",
    },
    Case {
        rule: "recognise_softmax",
        signature: N,
        before: "%e = exp %x\n%s = reduce %e {axes = [0], reducer = sum}\n%t = broadcast %s {axes = [1]} : f32[3, 4]\n%y = div %e, %t",
        after: "%y = softmax %x {axis = 0}",
    },
];

#[test]
fn spelled_out_composites_are_recognised() {
    CASES.iter().for_each(|case| check(case, "canonicalise"));
}

#[test]
fn layer_norm_takes_its_scale_and_its_shift_in() {
    let with = |rule, rest: &'static str, after: &'static str| {
        let before: &'static str = format!("{LAYER_NORM}{rest}").leak();
        check(&Case { rule, signature: N, before, after }, "canonicalise");
    };
    let ones = "%i = constant dense<1.0> : f32[]\n%one = broadcast %i {axes = []} : f32[4]\n";
    let zeros = "%o = constant dense<0.0> : f32[]\n%zero = broadcast %o {axes = []} : f32[4]\n";
    let scale = "%k = constant dense<[1.0, 2.0, 3.0, 4.0]> : f32[4]\n";
    let shift = "%l = constant dense<[5.0, 6.0, 7.0, 8.0]> : f32[4]\n";
    let leak = |parts: &[&str]| -> &'static str { parts.concat().leak() };
    with(
        "recognise_layer_norm",
        "%y = exp %z",
        leak(&[
            ones,
            zeros,
            "%n = layer_norm %x, %one, %zero {axis = 1, epsilon = 0.0010000000474974513}\n%y = exp %n",
        ]),
    );
    with(
        "scale_into_layer_norm",
        leak(&[scale, "%g = broadcast %k {axes = [1]} : f32[3, 4]\n%y = mul %z, %g"]),
        leak(&[scale, zeros, "%y = layer_norm %x, %k, %zero {axis = 1, epsilon = 0.0010000000474974513}"]),
    );
    with(
        "shift_into_layer_norm",
        leak(&[
            scale,
            shift,
            "%g = broadcast %k {axes = [1]} : f32[3, 4]\n%h = broadcast %l {axes = [1]} : f32[3, 4]\n%a = mul %g, %z\n%y = add %a, %h",
        ]),
        leak(&[scale, shift, "%y = layer_norm %x, %k, %l {axis = 1, epsilon = 0.0010000000474974513}"]),
    );
}

#[test]
fn near_misses_stay_what_they_are() {
    let silent = |rule: &str, body: &str| check_silent(rule, N, body, "canonicalise");
    let number = |name: &str, n: &str| format!("%{name} = constant dense<{n}> : f32[3, 4]\n");
    // Another scale inside, another number outside, another value outside.
    let gelu = |inner: &str, outer: &str, x: &str| {
        let (k, one, h) = (number("k", inner), number("one", "1.0"), number("h", outer));
        format!(
            "{k}{one}{h}%a = mul %x, %k\n%b = erf %a\n%c = add %b, %one\n%v = abs %x\n%d = mul %{x}, %c\n%y = mul %d, %h"
        )
    };
    silent("recognise_gelu", &gelu("0.7", "0.5", "x"));
    silent("recognise_gelu", &gelu("0.70710677", "0.25", "x"));
    silent("recognise_gelu", &gelu("0.70710677", "0.5", "v"));
    silent("recognise_silu", "%a = abs %x\n%b = sigmoid %a\n%y = mul %b, %x");
    silent(
        "recognise_hard_swish",
        &format!(
            "{}%a = add %x, %k\n%b = clip %a {{min = 0.0, max = 6.0}}\n{}%c = div %b, %l\n%y = mul %c, %x",
            number("k", "3.5"),
            number("l", "6.0")
        ),
    );
    silent("recognise_sigmoid", &format!("{}%a = exp %x\n%b = add %a, %k\n%y = reciprocal %b", number("k", "1.0")));
    // The maximum of another axis; a sum of something else; the wrong axis put back (only a square could do that).
    let square =
        |body: &str| check_silent("recognise_softmax", "(%x: f32[4, 4]) -> (%y: f32[4, 4])", body, "canonicalise");
    square(
        "%e = exp %x\n%s = reduce %e {axes = [1], reducer = sum}\n%t = broadcast %s {axes = [1]} : f32[4, 4]\n%y = div %e, %t",
    );
    silent(
        "recognise_softmax",
        "%e = exp %x\n%s = reduce %x {axes = [1], reducer = sum}\n%t = broadcast %s {axes = [0]} : f32[3, 4]\n%y = div %e, %t",
    );
    // The mean of the wrong count, the variance of the wrong value.
    silent("recognise_layer_norm", &format!("{}%y = exp %z", LAYER_NORM.replace("dense<4.0>", "dense<5.0>")));
    silent(
        "recognise_layer_norm",
        &format!("{}%y = exp %z", LAYER_NORM.replace("%q = pow %d, %two", "%q = pow %x, %two")),
    );
    // A scale along the other axis.
    silent(
        "scale_into_layer_norm",
        &format!(
            "{LAYER_NORM}%k = constant dense<[1.0, 2.0, 3.0]> : f32[3]\n%g = broadcast %k {{axes = [0]}} : f32[3, 4]\n%y = mul %z, %g"
        ),
    );
}
