//! Two texts side by side, line by line: what only the first has, what only the second has, and a little around it.

/// Equal lines shown before and after a difference.
const AROUND: usize = 3;

/// What turns `old` into `new`: the lines that leave with `-`, those that come with `+`, by a longest common subsequence.
pub(crate) fn between(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // The length of what is common to both from here on.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for left in (0..old.len()).rev() {
        for right in (0..new.len()).rev() {
            common[left][right] = match old[left] == new[right] {
                true => common[left + 1][right + 1] + 1,
                false => common[left + 1][right].max(common[left][right + 1]),
            };
        }
    }
    let (mut left, mut right, mut lines) = (0, 0, Vec::new());
    while left < old.len() || right < new.len() {
        if left < old.len() && right < new.len() && old[left] == new[right] {
            lines.push((' ', old[left]));
            (left, right) = (left + 1, right + 1);
        } else if right == new.len() || (left < old.len() && common[left + 1][right] >= common[left][right + 1]) {
            lines.push(('-', old[left]));
            left += 1;
        } else {
            lines.push(('+', new[right]));
            right += 1;
        }
    }
    let near = |place: usize| {
        let from = place.saturating_sub(AROUND);
        lines[from..lines.len().min(place + AROUND + 1)]
            .iter()
            .any(|(sign, _)| *sign != ' ')
    };
    let shown = lines.iter().enumerate().filter(|(place, _)| near(*place));
    shown.map(|(_, (sign, line))| format!("{sign} {line}\n")).collect()
}

#[test]
fn a_difference_shows_what_left_and_what_came() {
    let old = "1\n2\n3\n4\n5\n6\n";
    assert_eq!(between(old, old), "");
    assert_eq!(between(old, "1\n2\n3\n4\n5\nsix\n"), "  3\n  4\n  5\n- 6\n+ six\n");
}
