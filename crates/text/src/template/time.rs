//! The date for templates that ask for it.

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `strftime` in UTC for the fields `a A b B d e H I j m M p S y Y F T %`; `unix` in seconds.
pub(super) fn format_utc(unix: u64, format: &str) -> Result<String, String> {
    // the last second of the year 9999
    let unix = unix.min(253_402_300_799);
    let (days, second) = (unix / 86_400, unix % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let weekday = name(&DAYS, (days + 4) % 7);
    let month_name = name(&MONTHS, month - 1);
    let day_of_year = days - first_day(year) + 1;
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut field = characters.next();
        let padded = field != Some('-');
        if !padded {
            field = characters.next();
        }
        let number = |value: u64, width: usize| {
            let width = if padded { width } else { 1 };
            format!("{value:0width$}")
        };
        out.push_str(&match field {
            Some('Y') => number(year, 4),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('e') => format!("{day:2}"),
            Some('H') => number(hour, 2),
            Some('I') => number((hour + 11) % 12 + 1, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('j') => number(day_of_year, 3),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday.chars().take(3).collect(),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name.chars().take(3).collect(),
            Some('F') => format!("{year:04}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('%') => "%".to_owned(),
            other => return Err(format!("strftime field {other:?} is not supported")),
        });
    }
    Ok(out)
}

fn name(names: &[&'static str], index: u64) -> &'static str {
    usize::try_from(index)
        .ok()
        .and_then(|index| names.get(index))
        .copied()
        .unwrap_or_default()
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970-01-01 to the first day of the year.
fn first_day(year: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

/// Year, month 1..=12, day 1..=31.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while first_day(year + 1) <= days {
        year += 1;
    }
    let mut rest = days - first_day(year);
    let february = if is_leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(
            format_utc(0, "%A %d %B %Y, %H:%M:%S %j").unwrap(),
            "Thursday 01 January 1970, 00:00:00 001"
        );
        assert_eq!(
            format_utc(951_782_400, "%F %a %b %j").unwrap(),
            "2000-02-29 Tue Feb 060"
        );
        assert_eq!(
            format_utc(1_735_689_599, "%Y-%m-%d %T %p %I %j").unwrap(),
            "2024-12-31 23:59:59 PM 11 366"
        );
        assert_eq!(
            format_utc(1_785_542_400, "%-d %b %y %%").unwrap(),
            "1 Aug 26 %"
        );
        assert!(format_utc(u64::MAX, "%Y").unwrap().starts_with("9999"));
        assert!(format_utc(0, "%Q").is_err());
        assert!(format_utc(0, "%").is_err());
    }
}
