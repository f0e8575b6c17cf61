use super::*;

fn refused(bytes: &[u8], words: &str) {
    let reason = parse(bytes).unwrap_err();
    assert!(reason.contains(words), "{reason}");
}

#[test]
fn reads_what_pickle_writes() {
    // pickle.dumps({"a": [1, 300, -2, None], b"b": (True,)}, 4)
    let bytes = b"\x80\x04\x95\x1f\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94]\x94(K\x01M,\x01J\xfe\xff\xff\xffNeC\x01b\x94\x88\x85\x94u.";
    let value = parse(bytes).unwrap();
    let ints = [Value::Int(1), Value::Int(300), Value::Int(-2), Value::None];
    assert_eq!(value.get("a"), Some(&Value::List(ints.to_vec())));
    assert_eq!(value.get("b"), Some(&Value::List(vec![Value::Int(1)])));
    assert_eq!(value.get("c"), None);
    // Every beginning of it is refused, and none panics.
    (0..bytes.len()).for_each(|end| assert!(parse(&bytes[..end]).is_err()));
    for (long, number) in [(&b"\x01\xff"[..], -1), (b"\x02\xff\0", 255), (b"\0", 0)] {
        assert_eq!(parse(&[b"\x80\x02\x8a", long, b"."].concat()), Ok(Value::Int(number)));
    }
}

#[test]
fn nothing_is_called_and_nothing_else_is_read() {
    refused(b"\x80\x02cos\nsystem\nU\x02ls\x85R.", "names os.system");
    refused(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "names builtins.eval");
    refused(b"\x80\x02cnumpy\ndtype\nU\x02i8K\0K\x01\x87R.", "type i8");
    refused(b"\x80\x05N.", "protocol 5");
    refused(b"(dp0\n.", "not a pickle");
    refused(b"\x80\x02i", "opcode 0x69");
    refused(b"\x80\x02h\x07.", "value 7 was not stored");
}

#[test]
fn small_files_cannot_make_huge_or_deep_values() {
    // Lists in lists, and a list that holds itself ten times over, again and again.
    refused(&[b"\x80\x02N".as_slice(), &[0x85; 100_000], b"."].concat(), "too deep");
    refused(b"\x80\x02]q\0h\0h\0\x86q\x01.", "used twice");
    let mut many = b"\x80\x02]".to_vec();
    many.extend(b"K\x01a".repeat(200_000));
    many.push(b'.');
    assert!(matches!(parse(&many), Ok(Value::List(items)) if items.len() == 200_000));
}
