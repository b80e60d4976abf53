//! GGUF files: a directory of tensors that lie inside the file, or a typed error; every quantised tensor can be read. Never a panic, never memory out of proportion.
#![no_main]

use assay_import::gguf::{Gguf, Groups};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(gguf) = Gguf::parse(bytes) else { return };
    for tensor in gguf.tensors() {
        let range = tensor.start as usize..(tensor.start + tensor.len) as usize;
        let data = bytes.get(range).expect("a tensor lies inside the file");
        let mut values = Vec::new();
        let _ = tensor.ty.dequantise(&tensor.name, data, &mut values);
        let mut groups = Groups::default();
        tensor.ty.groups(data, &mut groups);
        assert!(groups.codes.len() as u64 <= tensor.rows() * tensor.cols());
    }
});
