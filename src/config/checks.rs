//! What certain values have to fulfil beyond their form: names of files, the host name, the process title.

/// Redis's limit of a host name, with its end mark.
const HOST_NAME_BYTES_MAX: usize = 256;

fn is_path(value: &[u8]) -> bool {
    value.contains(&b'/') || value.contains(&b'\\')
}

pub fn db_filename(value: &[u8]) -> Result<(), &'static str> {
    if is_path(value) { Err("dbfilename can't be a path, just a filename") } else { Ok(()) }
}

pub fn append_filename(value: &[u8]) -> Result<(), &'static str> {
    match value {
        b"" => Err("appendfilename can't be empty"),
        _ if is_path(value) => Err("appendfilename can't be a path, just a filename"),
        _ => Ok(()),
    }
}

pub fn append_dirname(value: &[u8]) -> Result<(), &'static str> {
    match value {
        b"" => Err("appenddirname can't be empty"),
        _ if is_path(value) => Err("appenddirname can't be a path, just a dirname"),
        _ => Ok(()),
    }
}

pub fn host_name(value: &[u8]) -> Result<(), &'static str> {
    if value.len() >= HOST_NAME_BYTES_MAX {
        return Err("Hostnames must be less than 256 characters");
    }
    if value.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'.') {
        Ok(())
    } else {
        Err("Hostnames may only contain alphanumeric characters, hyphens or dots")
    }
}

/// Defragmentation moves what a jemalloc with hooks placed badly; there is none here, nor in a distribution's Redis.
pub fn active_defrag(value: &[u8]) -> Result<(), &'static str> {
    if value == b"yes" {
        return Err("Active defragmentation cannot be enabled: it requires a Redis server compiled with a modified \
                    Jemalloc like the one shipped by default with the Redis source distribution");
    }
    Ok(())
}

/// `{name}` stands for a variable, `{{` for a brace; the result must not be empty.
pub fn title_template(value: &[u8]) -> Result<(), &'static str> {
    const VARIABLES: [&[u8]; 7] = [b"title", b"listen-addr", b"server-mode", b"port", b"tls-port", b"config-file", b"unixsocket"];
    const REFUSAL: &str = "template format is invalid or contains unknown variables";
    if value.trim_ascii().is_empty() {
        return Err(REFUSAL);
    }
    let mut rest = value;
    while let Some(brace) = rest.iter().position(|byte| *byte == b'{') {
        rest = &rest[brace + 1..];
        if let Some(after) = rest.strip_prefix(b"{") {
            rest = after;
            continue;
        }
        let end = rest.iter().position(|byte| *byte == b'}').ok_or(REFUSAL)?;
        if !VARIABLES.contains(&&rest[..end]) {
            return Err(REFUSAL);
        }
        rest = &rest[end + 1..];
    }
    Ok(())
}
