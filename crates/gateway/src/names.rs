//! Near names, for `model_not_found`.

/// Edit distance, bounded by the lengths of short names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.iter().zip(row.iter().skip(1)) {
            left = (left + 1)
                .min(above + 1)
                .min(diagonal + usize::from(x != *y));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Up to three of `names`, nearest first; those that contain the wanted name or are contained in it come first.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<(usize, &str)> = names
        .map(|name| {
            let lower = name.to_lowercase();
            let related =
                !wanted.is_empty() && (lower.contains(&wanted) || wanted.contains(&lower));
            let score = if related {
                0
            } else {
                1 + distance(&wanted, &lower)
            };
            (score, name)
        })
        .collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names_come_first() {
        let names = ["minilm", "digits", "resnet-18"];
        assert_eq!(nearest("minilmm", names.into_iter())[0], "minilm");
        assert_eq!(nearest("resnet", names.into_iter())[0], "resnet-18");
        assert_eq!(nearest("", names.into_iter()).len(), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
