"""IAM's propagation: for a set time authorisation sees policies, boundaries, keys and trust as they were.

IAM's own calls read and write the present state at once, as on AWS. Without: a change is in force with the call's
answer. Before each write IAM's state is put by; whoever authorises in the time that follows reads what was put by.
What CloudFormation makes by itself is in force at once.
"""

import contextvars
import copy
import time

import conditions

AUTHORISING = contextvars.ContextVar("authorising", default=False)
READS = ("Get", "List", "Simulate", "Generate")

# (when the write was made, the stores before it), oldest first.
HISTORY = []


def as_authorised(stores_now):
    """The stores that authorisation sees now, by name; None where that is the present state."""
    then = time.monotonic() - conditions.SETTINGS.iam_delay
    while HISTORY and HISTORY[0][0] <= then:
        HISTORY.pop(0)
    return HISTORY[0][1] if HISTORY else None


def install(replace, refuse, gateway, iam_evaluator, iam, sts, scoped_dict):
    slot = scoped_dict.__dict__["_data"]
    names = ("_users", "_roles", "_policies", "_access_keys", "_groups", "_user_inline_policies", "_group_inline_policies")
    stores = {name: getattr(iam, name) for name in names}
    by_id = {id(store): name for name, store in stores.items()}

    class Lagging(scoped_dict):
        """A store of IAM that shows whoever authorises what was put by."""

        __slots__ = ()

        @property
        def _data(self):
            if AUTHORISING.get() and HISTORY:
                seen = as_authorised(stores)
                if seen is not None:
                    return seen[by_id[id(self)]]
            return slot.__get__(self)

        @_data.setter
        def _data(self, value):
            slot.__set__(self, value)

    for name, store in stores.items():
        if type(store) is not scoped_dict:
            refuse(f"`iam.{name}` is no longer kept by account")
        store.__class__ = Lagging

    def authorising(original):
        def wrapped(*arguments, **named):
            token = AUTHORISING.set(True)
            try:
                return original(*arguments, **named)
            finally:
                AUTHORISING.reset(token)

        return wrapped

    def assuming(original):
        async def handle_request(*arguments):
            token = AUTHORISING.set(True)
            try:
                return await original(*arguments)
            finally:
                AUTHORISING.reset(token)

        return handle_request

    def putting_by(original):
        async def handle_request(method, path, headers, body, query_params):
            params = gateway._routing_params(method, path, headers, body, query_params)
            action = (params.get("Action") or [""])[0]
            if not conditions.SETTINGS.iam_delay or action.startswith(READS):
                return await original(method, path, headers, body, query_params)
            before = {name: copy.deepcopy(slot.__get__(store)) for name, store in stores.items()}
            answer = await original(method, path, headers, body, query_params)
            if answer[0] < 300:
                HISTORY.append((time.monotonic(), before))
            return answer

        return handle_request

    for name in ("enforce", "resolve_credential", "resolve_principal"):
        replace(iam_evaluator, name, authorising)
    replace(sts, "handle_request", assuming)
    replace(iam, "handle_request", putting_by)
    if sts.resolve_credential is not iam_evaluator.resolve_credential:
        sts.resolve_credential = iam_evaluator.resolve_credential
