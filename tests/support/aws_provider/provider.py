"""Pulumi's side: what the engine asks a provider, answered by Terraform's."""

import base64
import json
import secrets
import threading
from functools import cache, cached_property
from importlib import metadata
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, empty_pb2, json_format, struct_pb2
from google.rpc import status_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from tests.support.aws_provider import protocol, sdk, values
from tests.support.aws_provider.protocol import TerraformProvider, message
from tests.support.aws_provider.shape import Form, Shape
from tests.support.aws_provider.values import RefusedError

_TERRAFORM = "1.11.0"
"""What the provider is told that asks it."""
_STATE, _PRIVATE = "__terraformState", "__terraformPrivate"
_DEFAULTS = "__defaults"
"""Pulumi's own word for the inputs that a provider filled in."""

# What is called by another name there than module and name say.
_TYPES = {
    "lb/loadBalancer": "aws_lb",
    "alb/loadBalancer": "aws_lb",
    "rds/instance": "aws_db_instance",
    "rds/subnetGroup": "aws_db_subnet_group",
}
# What gets a name of its own where none is given: the attribute if that is not `name`, and its longest value.
_NAMED_BY = {
    "aws_s3_bucket": "bucket",
    "aws_key_pair": "key_name",
    "aws_cloudwatch_metric_alarm": "alarm_name",
    "aws_db_instance": "identifier",
}
_LONGEST_NAME = {"aws_lb": 32, "aws_lb_target_group": 32, "aws_s3_bucket": 63, "aws_iam_role": 64}
_SMALL_LETTERS = {"aws_s3_bucket", "aws_db_instance"}

Message = Any
"""The generated protocol classes carry no types."""


class AwsProvider(provider_pb2_grpc.ResourceProviderServicer):
    """The provider `aws` of a Pulumi engine."""

    def __init__(self, upstream: TerraformProvider) -> None:
        """Stand before a Terraform provider."""
        self._upstream = upstream
        self._shapes: dict[str, tuple[str, Shape]] = {}
        self._reading = threading.Lock()

    # --- What there is

    @cached_property
    def _schemas(self) -> Message:
        return self._upstream.ask("GetSchema")

    def _known(self, token: str) -> tuple[str, Shape]:
        """Return Terraform's name of a resource's type, and its shape."""
        return self._shape(token, self._schemas.resource_schemas, sdk.of_resource)

    def _shape(self, token: str, schemas: Any, in_sdk: Any) -> tuple[str, Shape]:
        with self._reading:  # the engine asks for many resources of a type at once
            if token not in self._shapes:
                module, name = _module_and_name(token)
                bare = name.removeprefix("get") if in_sdk is sdk.of_function else name
                names = (f"aws_{sdk.snake(module)}_{sdk.snake(bare)}", f"aws_{sdk.snake(bare)}")
                kind = next(
                    (each for each in (_TYPES.get(f"{module}/{name}"), *names) if each and each in schemas), None
                )
                if kind is None:
                    raise RefusedError(f"{token}: Terraform's provider has nothing of that name ({', '.join(names)})")
                shape = Shape.of_block(schemas[kind].block).named(kind, in_sdk(module, name))
                self._shapes[token] = kind, shape
            return self._shapes[token]

    # --- The provider itself

    def Handshake(self, request: Message, context: Message) -> Message:
        """Say what this provider understands."""
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request: Message, context: Message) -> Message:
        """Answer with the version of the SDK that is spoken here."""
        return plugin_pb2.PluginInfo(version=metadata.version("pulumi_aws"))

    def GetSchema(self, request: Message, context: Message) -> Message:
        """Have no schema: the SDK is there already."""
        return provider_pb2.GetSchemaResponse(schema="{}")

    def Attach(self, request: Message, context: Message) -> Message:
        """Go on."""
        return empty_pb2.Empty()

    def Cancel(self, request: Message, context: Message) -> Message:
        """End what is under way."""
        self._upstream.stop()
        return empty_pb2.Empty()

    def CheckConfig(self, request: Message, context: Message) -> Message:
        """Take the provider's arguments as they are; `Configure` looks at them."""
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Message, context: Message) -> Message:
        """Replace everything only when the region is another one."""
        old, new = values.bare(_read(request.olds)), values.bare(_read(request.news))
        kinds = provider_pb2.DiffResponse
        changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key) and key != "version")
        return kinds(
            changes=kinds.DIFF_SOME if changed else kinds.DIFF_NONE,
            diffs=changed,
            replaces=[key for key in changed if key == "region"],
        )

    def Configure(self, request: Message, context: Message) -> Message:
        """Configure Terraform's provider, which looks for credentials and for its account."""
        shape = Shape.of_block(self._schemas.provider.block).named("aws", sdk.of_resource("index", "provider"))
        known = shape.by_property
        given: dict[str, Any] = {}
        for key, value in values.bare(_read(request.args)).items():
            # The engine writes what is no text as JSON.
            plain = key not in known or known[key][1].form is Form.TEXT or not isinstance(value, str)
            given[key] = value if plain else json.loads(value)
        given.pop("version", None)
        try:
            config = values.to_terraform(given, shape, "provider")
        except RefusedError as fault:
            _fail(context, str(fault))
        prepared = self._upstream.ask("PrepareProviderConfig", config=_dynamic(config))
        _fail_for_errors(context, prepared)
        _fail_for_errors(
            context, self._upstream.ask("Configure", terraform_version=_TERRAFORM, config=_dynamic(config))
        )
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Invoke(self, request: Message, context: Message) -> Message:
        """Call a function: Terraform's data sources."""
        try:
            kind, shape = self._shape(request.tok, self._schemas.data_source_schemas, sdk.of_function)
            config = values.to_terraform(_without_region(_read(request.args), shape), shape, request.tok)
        except RefusedError as fault:
            return provider_pb2.InvokeResponse(failures=[provider_pb2.CheckFailure(reason=str(fault))])
        _fail_for_errors(
            context, self._upstream.ask("ValidateDataSourceConfig", type_name=kind, config=_dynamic(config))
        )
        result = self._upstream.ask("ReadDataSource", type_name=kind, config=_dynamic(config))
        _fail_for_errors(context, result)
        # `return` is a keyword of Python.
        return provider_pb2.InvokeResponse(**{"return": _struct(values.to_pulumi(_value(result.state), shape))})

    # --- Resources

    def Check(self, request: Message, context: Message) -> Message:
        """Say whether the inputs are right, and give a name to what has none."""
        given, before = _read(request.news), values.bare(_read(request.olds))
        try:
            kind, shape = self._known(request.type)
            _name(given, before, request, kind, shape)
            config = _config(given, shape, request.name)
        except RefusedError as fault:
            return provider_pb2.CheckResponse(
                inputs=request.news, failures=[provider_pb2.CheckFailure(reason=str(fault))]
            )
        answer = self._upstream.ask("ValidateResourceTypeConfig", type_name=kind, config=_dynamic(config))
        failures = [
            provider_pb2.CheckFailure(property=sdk.camel(path.split(".")[0]), reason=f"{path}: {text}".lstrip(": "))
            for path, text in protocol.errors(answer)
        ]
        return provider_pb2.CheckResponse(inputs=_struct(given), failures=failures)

    def Diff(self, request: Message, context: Message) -> Message:
        """Say what an update would change, and whether that takes a new resource."""
        given = _read(request.news)
        kind, shape = self._known(request.type)
        before, private = _stored(request.olds)
        planned = self._planned(
            context, kind, shape, _config(given, shape, request.name), before=before, private=private
        )
        after = _value(planned.planned_state)
        changed = {
            name for name, each in shape.fields.items() if values.differ(before.get(name), after.get(name), each)
        }
        kinds = provider_pb2.DiffResponse
        if not changed:
            return kinds(changes=kinds.DIFF_NONE)
        replacing = protocol.roots(planned.requires_replace) & changed
        return kinds(
            changes=kinds.DIFF_SOME,
            diffs=sorted(shape.fields[name].pulumi for name in changed),
            replaces=sorted(shape.fields[name].pulumi for name in replacing),
            deleteBeforeReplace=bool(replacing) and _keeps_its_name(given, changed, kind, shape),
        )

    def Create(self, request: Message, context: Message) -> Message:
        """Make a resource, or say what it would look like."""
        given = _read(request.properties)
        kind, shape = self._known(request.type)
        made = self._applied(context, request, kind, shape, given, before=None, private=b"")
        return provider_pb2.CreateResponse(
            id="" if request.preview else str(made["id"]), properties=_struct(_marked(made, given, shape))
        )

    def Update(self, request: Message, context: Message) -> Message:
        """Change a resource, or say what it would look like."""
        given = _read(request.news)
        kind, shape = self._known(request.type)
        before, private = _stored(request.olds)
        made = self._applied(context, request, kind, shape, given, before=before, private=private)
        return provider_pb2.UpdateResponse(properties=_struct(_marked(made, given, shape)))

    def Read(self, request: Message, context: Message) -> Message:
        """Say what a resource looks like now; nothing where it is gone."""
        kind, shape = self._known(request.type)
        inputs = _read(request.inputs)
        if _STATE in request.properties:
            before, private = _stored(request.properties)
        else:
            answer = self._upstream.ask("ImportResourceState", type_name=kind, id=request.id)
            _fail_for_errors(context, answer)
            if not answer.imported_resources:
                return provider_pb2.ReadResponse()
            (imported, *_) = answer.imported_resources
            before, private = _value(imported.state), imported.private
        answer = self._upstream.ask("ReadResource", type_name=kind, current_state=_dynamic(before), private=private)
        _fail_for_errors(context, answer)
        state = _value(answer.new_state)
        if state is None:
            return provider_pb2.ReadResponse()
        result = _outputs(state, answer.private, shape)
        if not inputs:
            settable = {each.pulumi for each in shape.fields.values() if each.settable}
            inputs = {key: value for key, value in result.items() if key in settable}
        return provider_pb2.ReadResponse(
            id=request.id, properties=_struct(_marked(result, inputs, shape)), inputs=_struct(inputs)
        )

    def Delete(self, request: Message, context: Message) -> Message:
        """Remove a resource."""
        kind, _ = self._known(request.type)
        before, private = _stored(request.properties)
        nothing = _dynamic(None)
        answer = self._upstream.ask(
            "ApplyResourceChange",
            type_name=kind,
            prior_state=_dynamic(before),
            planned_state=nothing,
            config=nothing,
            planned_private=private,
        )
        _fail_for_errors(context, answer)
        return empty_pb2.Empty()

    def _planned(  # noqa: PLR0913  # what a plan is made of
        self, context: Message, kind: str, shape: Shape, config: Any, *, before: Any, private: bytes
    ) -> Message:
        answer = self._upstream.ask(
            "PlanResourceChange",
            type_name=kind,
            prior_state=_dynamic(before),
            proposed_new_state=_dynamic(values.proposed(before, config, shape)),
            config=_dynamic(config),
            prior_private=private,
        )
        _fail_for_errors(context, answer)
        return answer

    def _applied(  # noqa: PLR0913  # what a change is made of
        self,
        context: Message,
        request: Message,
        kind: str,
        shape: Shape,
        given: dict[str, Any],
        *,
        before: Any,
        private: bytes,
    ) -> dict[str, Any]:
        """Plan and, unless it is a preview, carry out; return the outputs."""
        config = _config(given, shape, request.name)
        planned = self._planned(context, kind, shape, config, before=before, private=private)
        if request.preview:
            return _outputs(_value(planned.planned_state), None, shape)
        answer = self._upstream.ask(
            "ApplyResourceChange",
            type_name=kind,
            prior_state=_dynamic(before),
            planned_state=planned.planned_state,
            config=_dynamic(config),
            planned_private=planned.planned_private,
        )
        state = _value(answer.new_state)
        faults = [text for _, text in protocol.errors(answer)]
        if faults and isinstance(state, dict) and state.get("id") and not values.has_unknown(state):
            made = _marked(_outputs(state, answer.private, shape), given, shape)
            _fail_half_done(context, faults, str(state["id"]), made, given)
        _fail_for_errors(context, answer)
        return _outputs(state, answer.private, shape)


def _module_and_name(token: str) -> tuple[str, str]:
    _, middle, last = token.split(":")
    module, _, name = middle.partition("/")
    return (module, name) if name else ("index", last)


def _without_region(given: dict[str, Any], shape: Shape) -> dict[str, Any]:
    # What a resource says of its region, the SDK's provider understands and this one's does not.
    known = shape.fields.get("region")
    bare = values.bare(given)
    return bare if known and known.settable else {key: value for key, value in bare.items() if key != "region"}


def _config(given: dict[str, Any], shape: Shape, name: str) -> dict[str, Any]:
    return values.to_terraform(_without_region(given, shape), shape, name)


def _name(given: dict[str, Any], before: dict[str, Any], request: Message, kind: str, shape: Shape) -> None:
    """Name what has none, as Pulumi does: its logical name and seven digits; and keep such a name for ever."""
    key = _NAMED_BY.get(kind, "name")
    attribute = shape.fields.get(key)
    if attribute is None or attribute.form is not Form.TEXT or not attribute.settable:
        return
    # Terraform chooses some names itself; and Pulumi some of those that Terraform wants from people.
    if not attribute.computed and not sdk.may_leave_out(*_module_and_name(request.type), attribute.pulumi):
        return
    prefix = shape.fields.get(f"{key}_prefix")
    property_ = attribute.pulumi
    if given.get(property_) is not None or (prefix and given.get(prefix.pulumi)):
        return
    if property_ in before.get(_DEFAULTS, []):
        given[property_] = before[property_]
    else:
        digits = request.randomSeed.hex()[:7] or secrets.token_hex(4)[:7]
        stem = request.name[: _LONGEST_NAME.get(kind, 255) - len(digits) - 1]
        name = f"{stem}-{digits}"
        given[property_] = name.lower() if kind in _SMALL_LETTERS else name
    given[_DEFAULTS] = [property_]


def _keeps_its_name(given: dict[str, Any], changed: set[str], kind: str, shape: Shape) -> bool:
    """Tell whether the program gave a name and gives it again: two cannot have it at a time."""
    key = _NAMED_BY.get(kind, "name")
    if key not in shape.fields or key in changed:
        return False
    property_ = shape.fields[key].pulumi
    return property_ in given and property_ not in given.get(_DEFAULTS, [])


@cache
def _null() -> Message:
    return message("DynamicValue", msgpack=values.pack(None))


def _dynamic(value: Any) -> Message:
    return _null() if value is None else message("DynamicValue", msgpack=values.pack(value))


def _value(dynamic: Message) -> Any:
    return values.unpack(dynamic.msgpack) if dynamic.msgpack else None


def _outputs(state: dict[str, Any], private: bytes | None, shape: Shape) -> dict[str, Any]:
    outputs = values.to_pulumi(state, shape)
    if private is not None:
        outputs[_STATE] = base64.b64encode(values.pack(state)).decode()
        outputs[_PRIVATE] = base64.b64encode(private).decode()
    return outputs


def _stored(properties: Message) -> tuple[dict[str, Any], bytes]:
    result = values.bare(_read(properties))
    return values.unpack(base64.b64decode(result[_STATE])), base64.b64decode(result.get(_PRIVATE, ""))


def _marked(outputs: dict[str, Any], given: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """Mark as secrets what came in as one, what Terraform calls sensitive, and Terraform's state, which has it all."""
    hidden = {key for key, value in given.items() if values.is_secret(value)}
    hidden |= {each.pulumi for each in shape.fields.values() if each.sensitive}
    hidden |= {_STATE, _PRIVATE}
    return {key: values.secret(value) if key in hidden else value for key, value in outputs.items()}


def _read(properties: Message) -> dict[str, Any]:
    return json_format.MessageToDict(properties)


def _struct(value: dict[str, Any]) -> Message:
    return json_format.ParseDict(value, struct_pb2.Struct())


def _fail(context: Message, text: str) -> NoReturn:
    context.abort(grpc.StatusCode.UNKNOWN, text)
    raise AssertionError("abort raises")


def _fail_for_errors(context: Message, answer: Message) -> None:
    faults = [f"{path}: {text}".lstrip(": ") for path, text in protocol.errors(answer)]
    if faults:
        _fail(context, "; ".join(faults))


def _fail_half_done(
    context: Message, faults: list[str], identity: str, made: dict[str, Any], given: dict[str, Any]
) -> NoReturn:
    """Fail, and have the engine write down what is there all the same."""
    details = any_pb2.Any()
    details.Pack(
        provider_pb2.ErrorResourceInitFailed(
            id=identity, properties=_struct(made), reasons=faults, inputs=_struct(given)
        )
    )
    text = "; ".join(faults)
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=text, details=[details])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    _fail(context, text)
