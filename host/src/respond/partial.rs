//! PartialObjectMetadata, cut here from the whole object: what a mask hides in it may stand in an annotation too, and is known only from the field itself.

use crate::mask::{Unreadable, member};

/// The metadata of an object, in the version that was asked for.
pub(super) fn object(object: &[u8], version: &str) -> Result<Vec<u8>, Unreadable> {
    let metadata = member(object, b"metadata")?.unwrap_or(b"{}");
    Ok([b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"", version.as_bytes(), b"\",\"metadata\":", metadata, b"}"].concat())
}

/// What stands before the items of a list, the opening bracket included. Of the list itself, what stands behind its metadata need not be there.
pub(super) fn list_head(list: &[u8], version: &str) -> Result<Vec<u8>, Unreadable> {
    let metadata = member(list, b"metadata")?.unwrap_or(b"{}");
    Ok([b"{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"", version.as_bytes(), b"\",\"metadata\":", metadata, b",\"items\":["]
        .concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metadata_is_left() {
        let secret = br#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a"},"data":{"b":"c"}}"#;
        let text = String::from_utf8(object(secret, "meta.k8s.io/v1").unwrap()).unwrap();
        assert_eq!(text, r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a"}}"#);
        let list = br#"{"kind":"SecretList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[]}"#;
        let text = String::from_utf8(list_head(list, "meta.k8s.io/v1beta1").unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1beta1","metadata":{"resourceVersion":"7"},"items":["#
        );
    }
}
