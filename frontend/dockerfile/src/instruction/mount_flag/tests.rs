//! The keys of a mount and the rules between them.

use super::*;

fn read(text: &str) -> Result<Mount, String> {
    let flag = MountFlag::new(text).map_err(|error| error.to_string())?;
    flag.read(&mut |word| Ok(word.replace("$X", "x"))).map_err(|problem| problem.to_string())
}

#[test]
fn every_kind_has_its_defaults() {
    let bind = read("target=/t").unwrap();
    assert_eq!((bind.kind, bind.read_only), (MountKind::Bind, true));
    let cache = read("type=cache,target=/t,sharing=locked,uid=1,gid=2,mode=0750").unwrap();
    assert_eq!((cache.read_only, cache.sharing), (false, Some(Sharing::Locked)));
    assert_eq!((cache.uid, cache.gid, cache.mode), (Some(1), Some(2), Some(0o750)));
    assert_eq!(read("type=tmpfs,target=/t,size=64m").unwrap().size, 64 << 20);
    let secret = read("type=secret,id=a,required,env=TOKEN").unwrap();
    assert_eq!((secret.required, secret.env.as_deref()), (true, Some("TOKEN")));
    assert!(read("type=ssh,required=true").unwrap().required);
    assert!(!read("type=bind,target=/t,rw").unwrap().read_only);
    assert!(read("type=cache,target=/t,ro=true").unwrap().read_only);
}

#[test]
fn values_are_expanded_and_may_be_quoted() {
    let mount = read("type=cache,\"target=/a,b\",id=$X").unwrap();
    assert_eq!((mount.target.as_str(), mount.id.as_str()), ("/a,b", "x"));
}

#[test]
fn mistakes_are_named() {
    for (text, expected) in [
        ("type=cahce", "unsupported mount type \"cahce\" (did you mean cache?)"),
        ("type=cache,sharing=lock", "unsupported sharing value \"lock\" (did you mean locked?)"),
        ("type=cache,tagret=/t", "unexpected key 'tagret' in 'tagret=/t' (did you mean target?)"),
        ("type=cache,foo", "invalid field 'foo' must be a key=value pair"),
        ("type=cache,required", "unexpected key 'required' for mount type 'cache'"),
        ("type=cache,required=true", "unexpected key 'required' for mount type 'cache'"),
        ("size=1m", "unexpected key 'size' for mount type 'bind'"),
        ("type=tmpfs,size=big", "invalid value for size: big"),
        ("type=tmpfs,ro=maybe", "invalid value for ro: maybe"),
        ("type=cache,mode=rwx", "invalid value rwx for mode"),
        ("type=cache,uid=-1", "invalid value -1 for uid"),
        ("type=tmpfs,uid=1", "uid not allowed for \"tmpfs\" type mounts"),
        ("target=/t,mode=7", "mode not allowed for \"bind\" type mounts"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=tmpfs,sharing=shared", "invalid cache sharing set for tmpfs mount"),
        ("from=$X", "'from' doesn't support variable expansion, define alias stage instead"),
        (
            "target=\"a",
            "failed to parse csv mounts: parse error on line 1, column 8: bare \" in non-quoted-field",
        ),
    ] {
        assert_eq!(read(text).err().as_deref(), Some(expected), "{text}");
    }
}
