//! The picture: cost over number of users, both logarithmic, as SVG.
//! Pure.

/// One line of the picture; points are (users, nanoseconds).
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 470.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 640.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 420.0;
const COLOURS: [&str; 6] = [
    "#b07aa1", "#e15759", "#f28e2b", "#edc948", "#76b7b2", "#1f4e9c",
];

/// Two curves of one name share a colour.
pub(crate) fn draw(curves: &[Curve]) -> String {
    let points = || {
        curves
            .iter()
            .flat_map(|curve| &curve.points)
            .filter(|(_, y)| *y > 0.0)
    };
    let x_to = points()
        .fold(10.0, |most: f64, (x, _)| most.max(*x))
        .log10()
        .ceil();
    let y_to = points()
        .fold(10.0, |most: f64, (_, y)| most.max(*y))
        .log10()
        .ceil();
    let y_from = points()
        .fold(1e9, |least: f64, (_, y)| least.min(*y))
        .log10()
        .floor();
    let x_at = |users: f64| LEFT + (users.log10() - 1.0) / (x_to - 1.0) * (RIGHT - LEFT);
    let y_at = |cost: f64| BOTTOM - (cost.log10() - y_from) / (y_to - y_from) * (BOTTOM - TOP);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">getpwnam through glibc: time of one call over the number of users</text>\n"
    );
    for power in y_from as i32..=y_to as i32 {
        let y = y_at(10f64.powi(power));
        svg.push_str(&format!(
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            LEFT - 8.0,
            y + 4.0,
            label(power)
        ));
    }
    for power in 1..=x_to as i32 {
        let x = x_at(10f64.powi(power));
        svg.push_str(&format!(
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\" stroke=\"#ddd\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            BOTTOM + 18.0,
            10u64.pow(power as u32)
        ));
    }
    svg.push_str(&format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">users</text>\n",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 38.0
    ));

    let mut names: Vec<&str> = Vec::new();
    for curve in curves {
        if !names.contains(&curve.name.as_str()) {
            names.push(&curve.name);
        }
        let colour = COLOURS[(names.len() - 1) % COLOURS.len()];
        let dash = if curve.dashed {
            " stroke-dasharray=\"5 4\""
        } else {
            ""
        };
        let line: Vec<String> = curve
            .points
            .iter()
            .filter(|(_, cost)| *cost > 0.0)
            .map(|&(users, cost)| format!("{:.1},{:.1}", x_at(users), y_at(cost)))
            .collect();
        svg.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>\n",
            line.join(" ")
        ));
        for point in line {
            let (x, y) = point.split_once(',').unwrap_or_default();
            svg.push_str(&format!(
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"2.5\" fill=\"{colour}\"/>\n"
            ));
        }
    }
    for (at, name) in names.iter().enumerate() {
        let y = TOP + 10.0 + 22.0 * at as f64;
        svg.push_str(&format!(
            "<line x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"{}\" stroke-width=\"2\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{name}</text>\n",
            RIGHT + 15.0,
            RIGHT + 45.0,
            COLOURS[at % COLOURS.len()],
            RIGHT + 52.0,
            y + 4.0
        ));
    }
    let y = TOP + 20.0 + 22.0 * names.len() as f64;
    svg.push_str(&format!(
        "<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"#555\">solid: found; dashed: nobody</text>\n</svg>\n",
        RIGHT + 15.0
    ));
    svg
}

fn label(power: i32) -> String {
    match power {
        ..3 => format!("{} ns", 10u64.pow(power.max(0) as u32)),
        3..6 => format!("{} µs", 10u64.pow(power as u32 - 3)),
        _ => format!("{} ms", 10u64.pow(power as u32 - 6)),
    }
}
