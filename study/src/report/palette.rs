//! Colours of the page and its charts, in light and dark mode.
//!
//! plotters writes light colours into a chart as attributes. The style sheet replaces each of them by a variable that
//! has another value in dark mode.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// A colour and the CSS variable that holds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Colour {
    variable: &'static str,
    pub(super) light: RGBColor,
    dark: RGBColor,
}

const fn colour(variable: &'static str, light: [u8; 3], dark: [u8; 3]) -> Colour {
    let [red, green, blue] = light;
    let light = RGBColor(red, green, blue);
    let [red, green, blue] = dark;
    Colour { variable, light, dark: RGBColor(red, green, blue) }
}

/// Text.
pub(super) const INK: Colour = colour("ink", [0x1d, 0x21, 0x26], [0xe6, 0xe8, 0xeb]);
/// Text of less importance.
pub(super) const FAINT: Colour = colour("faint", [0x6a, 0x72, 0x7b], [0x9a, 0xa3, 0xad]);
/// Lines of tables and charts.
pub(super) const GRID: Colour = colour("grid", [0xe2, 0xe5, 0xe9], [0x30, 0x36, 0x3d]);
/// The floor.
pub(super) const FLOOR: Colour = colour("floor", [0x9a, 0xa1, 0xa9], [0x84, 0x8d, 0x97]);

/// The strategies, in their order. Further strategies start again at the first colour.
pub(super) const STRATEGIES: [Colour; 7] = [
    colour("s0", [0xd9, 0x8c, 0x00], [0xf0, 0xad, 0x2e]),
    colour("s1", [0x56, 0xa8, 0xdc], [0x7c, 0xc4, 0xf2]),
    colour("s2", [0xc2, 0x67, 0x9b], [0xe0, 0x8f, 0xbd]),
    colour("s3", [0x00, 0x67, 0xa5], [0x3d, 0x8f, 0xd6]),
    colour("s4", [0x00, 0x8a, 0x63], [0x22, 0xb7, 0x8a]),
    colour("s5", [0xd5, 0x5e, 0x00], [0xf0, 0x80, 0x40]),
    colour("s6", [0x7a, 0x6b, 0xbd], [0xa5, 0x98, 0xe6]),
];

/// Returns the colour of the strategy with this number.
pub(super) fn strategy(number: usize) -> Colour {
    STRATEGIES[number % STRATEGIES.len()]
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// Returns the variables, and the rules that apply them to charts and to elements with the class of a colour.
pub(super) fn style_sheet() -> String {
    let all = || [INK, FAINT, GRID, FLOOR].into_iter().chain(STRATEGIES);
    let variables = |mode: fn(&Colour) -> RGBColor| {
        let variable = |colour: Colour| format!("--{}: {};", colour.variable, hex(mode(&colour)));
        all().map(variable).collect::<Vec<_>>().join(" ")
    };
    let (light, dark) = (variables(|colour| colour.light), variables(|colour| colour.dark));
    let mut style =
        format!(":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n");
    for colour in all() {
        let (name, value) = (colour.variable, hex(colour.light));
        for attribute in ["fill", "stroke"] {
            let _ = writeln!(style, "svg.plot [{attribute}=\"{value}\"] {{ {attribute}: var(--{name}); }}");
        }
        let _ = writeln!(style, ".{name} {{ --c: var(--{name}); }}");
    }
    style
}
