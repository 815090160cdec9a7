"""What a game day sets while it plays: how late events and IAM changes arrive, which service control policies hold.

Everything is off until it is set. `GET /_firebreak/conditions` shows the settings and what was counted, `POST` changes
the settings that it names. It is no part of AWS: the paths are answered before anything of the emulator sees them, on
the loopback only.
"""

import json
import types

# `cloudtrail_delay`: seconds from a call to its event on the default bus; None: no events.
# `iam_delay`: seconds during which authorisation does not see a change of IAM.
# `scps`: the documents of the service control policies.
SETTINGS = types.SimpleNamespace(cloudtrail_delay=None, iam_delay=0.0, scps=[])

# What was counted since the start.
COUNTED = types.SimpleNamespace(events=0, scp_denials=[])


def seconds(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 600:
        raise ValueError(f"`{value}` is no number of seconds from 0 to 600")
    return float(value)


def document(value):
    if not isinstance(value, dict) or not isinstance(value.get("Statement"), list):
        raise ValueError("a policy document is an object with a list `Statement`")
    return value


def documents(value):
    if not isinstance(value, list):
        raise ValueError("the service control policies are a list of policy documents")
    return [document(one) for one in value]


PARSERS = {
    "cloudtrail_delay": lambda value: None if value is None else seconds(value),
    "iam_delay": seconds,
    "scps": documents,
}


def change(body):
    request = json.loads(body or b"{}")
    if not isinstance(request, dict):
        raise ValueError("the settings are an object")
    if unknown := set(request) - set(PARSERS):
        raise ValueError(f"no such setting: {', '.join(sorted(unknown))}")
    parsed = {name: PARSERS[name](value) for name, value in request.items()}
    for name, value in parsed.items():
        setattr(SETTINGS, name, value)


def conditions(method, body):
    if method == "POST":
        change(body)
    return {"settings": vars(SETTINGS), "counted": vars(COUNTED)}


# What answers a path, from the method and the body.
PATHS = {"/_firebreak/conditions": conditions}


async def answer(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    try:
        status, said = 200, PATHS[scope["path"]](scope["method"], body)
    except ValueError as error:
        status, said = 400, {"error": str(error)}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})


def install(replace, gateway):
    def with_conditions(original):
        async def app(scope, receive, send):
            local = (scope.get("client") or ("",))[0] == "127.0.0.1"
            if scope.get("type") == "http" and scope.get("path") in PATHS and local:
                await answer(scope, receive, send)
            else:
                await original(scope, receive, send)

        return app

    replace(gateway, "app", with_conditions)
