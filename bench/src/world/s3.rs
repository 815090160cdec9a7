//! The evidence bucket: objects by key. And the bucket of Lambda, from which code is fetched.

use super::aws_lambda::package;
use super::{Answer, PACKAGES, World};
use crate::call::{Call, bytes};

impl World {
    pub(super) fn s3(&mut self, call: &Call) -> Option<Answer> {
        let key = call.text("Key").to_owned();
        let mut answer = match call.operation.as_str() {
            "PutObject" if call.text("IfNoneMatch") == "*" && self.objects.contains_key(&key) => {
                return Some(Answer::xml_error(412, "PreconditionFailed"));
            }
            "PutObject" => {
                self.objects.insert(key, bytes(call.text("Body")));
                Answer::new(200, "application/xml", "")
            }
            "GetObject" if call.text("Bucket") == PACKAGES => Answer::new(200, "application/zip", package()),
            "GetObject" => match self.objects.get(&key) {
                Some(object) => Answer::new(200, "application/octet-stream", object.clone()),
                None => return Some(Answer::xml_error(404, "NoSuchKey")),
            },
            _ => return None,
        };
        answer.headers.push(("etag", "\"9bb58f26192e4ba00f01e2e7b136bbd8\"".to_owned()));
        Some(answer)
    }
}
