//! `multipart/form-data` (RFC 7578), as far as two small fields need it.

/// Most fields of a form.
const MAX_FIELDS: usize = 16;

/// One field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) name: String,
    pub(crate) bytes: &'a [u8],
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn parameter(text: &str, name: &str) -> Option<String> {
    text.split(';').skip(1).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn name_of(headers: &[u8]) -> Option<String> {
    let headers = std::str::from_utf8(headers).ok()?;
    let line = headers.lines().find(|line| {
        line.to_ascii_lowercase()
            .starts_with("content-disposition:")
    })?;
    parameter(line, "name")
}

/// Fields of a form.
pub(crate) fn parse<'a>(content_type: &str, body: &'a [u8]) -> Result<Vec<Field<'a>>, String> {
    let boundary =
        parameter(content_type, "boundary").filter(|text| (1..=70).contains(&text.len()));
    let boundary = boundary.ok_or("the form has no boundary")?;
    let first = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let mut rest = body
        .strip_prefix(first.as_bytes())
        .ok_or("the form does not begin with its boundary")?;
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        if fields.len() == MAX_FIELDS {
            return Err(format!("the form has more than {MAX_FIELDS} fields"));
        }
        let part = rest
            .strip_prefix(b"\r\n")
            .ok_or("a boundary of the form is not followed by a line end")?;
        let end = find(part, between.as_bytes()).ok_or("a field of the form has no end")?;
        let (part, after) = part.split_at(end);
        rest = after
            .get(between.len()..)
            .ok_or("a field of the form has no end")?;
        let head = find(part, b"\r\n\r\n").ok_or("a field of the form has no headers")?;
        let (headers, bytes) = part.split_at(head);
        let name = name_of(headers).ok_or("a field of the form has no name")?;
        fields.push(Field {
            name,
            bytes: bytes.get(4..).unwrap_or(&[]),
        });
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=XY";

    #[test]
    fn reads_fields() {
        let body = b"--XY\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndigits\r\n--XY\r\ncontent-disposition: form-data; name=\"image\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n--X\r\n--XY--\r\n";
        let fields = parse(KIND, body).unwrap();
        assert_eq!(
            fields[0],
            Field {
                name: "model".into(),
                bytes: b"digits"
            }
        );
        assert_eq!(fields[1].bytes, b"\x89PNG\r\n--X");
    }

    #[test]
    fn refuses_junk_without_panic() {
        for body in [
            &b""[..],
            b"--XY",
            b"--XY\r\n",
            b"--XY\r\n\r\n",
            b"--XYjunk",
            b"--XY\r\na\r\n--XY--",
        ] {
            assert!(parse(KIND, body).is_err());
        }
        assert!(parse("multipart/form-data", b"").is_err());
    }
}
