"""The Open Inference Protocol: a client that others wrote, and what its messages may not be."""

import json

import numpy as np
import pytest
import service as running
from hypothesis import given
from hypothesis import strategies as st
from test_serving import CASES, bundle, columns, often, refused, typical, written

http = pytest.importorskip("tritonclient.http")
DATATYPES = {"number": "FP64", "text": "BYTES"}


@pytest.fixture
def client(service):
    with http.InferenceServerClient(f"127.0.0.1:{service.port}", concurrency=4) as found:
        yield found


def tensors(case: str, records: list[dict], nested: bool = True) -> list:
    """Records as tritonclient's inputs."""
    found = []
    for column in bundle(case).inputs:
        values = np.array(
            columns(records)[column.name], float if column.type == "number" else object
        )
        values = values.reshape(-1, 1) if nested else values
        tensor = http.InferInput(column.name, values.shape, DATATYPES[column.type])
        found.append(tensor.set_data_from_numpy(values, binary_data=False))
    return found


def whole(case: str, n: int) -> list[dict]:
    """Live rows without gaps, of which NumPy's arrays of this client have none."""
    rows = [{k: typical(case)[k] if v is None else v for k, v in r.items()} for r in
            running.rows(case, n)]  # fmt: skip
    return [{k: "absent" if v is None else v for k, v in row.items()} for row in rows]


def request(case: str, records: list[dict], **more) -> dict:
    """An inference request."""
    inputs = [
        {"name": c.name, "shape": [len(records)], "datatype": DATATYPES[c.type], "data": values}
        for c, values in zip(bundle(case).inputs, columns(records).values(), strict=True)
    ]
    return {"inputs": inputs} | more


def changed(case: str, column: str, **members) -> dict:
    """An inference request with one tensor that is otherwise."""
    found = request(case, [typical(case)])
    (tensor,) = (t for t in found["inputs"] if t["name"] == column)
    tensor |= members
    return found


def infer(service, case: str, content: dict | str | bytes):
    if isinstance(content, dict):
        content = json.dumps(content)
    body = content if isinstance(content, bytes) else content.encode()
    return service.post(f"/v2/models/{case}/infer", body)


def outputs(answer) -> dict[str, list]:
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


# The client


def test_the_client_learns_what_there_is(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.get_server_metadata()["name"] == "truefit"
    for case in CASES:
        version = bundle(case).version
        found = client.get_model_metadata(case)
        assert (found["name"], found["versions"]) == (case, [version])
        assert [(i["name"], i["datatype"], i["shape"]) for i in found["inputs"]] == [
            (c.name, DATATYPES[c.type], [-1, 1]) for c in bundle(case).inputs
        ]
        assert client.is_model_ready(case) and client.is_model_ready(case, version)
        assert client.get_model_metadata(case, version) == found
        assert not client.is_model_ready(case, "1")
    assert not client.is_model_ready("none")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("n", "nested"), [(1, True), (30, False), (300, True)])
def test_the_client_gets_what_the_own_api_says(service, client, case, n, nested):
    records = whole(case, n)
    found = client.infer(case, tensors(case, records, nested), request_id="mine")
    said = found.get_response()
    assert (said["model_name"], said["model_version"], said["id"]) == (
        case, bundle(case).version, "mine",
    )  # fmt: skip
    own = service.predict(case, records).json()["predictions"]
    metadata = client.get_model_metadata(case)["outputs"]
    assert [o["name"] for o in said["outputs"]] == [o["name"] for o in metadata]
    for output in metadata:
        values = found.as_numpy(output["name"])
        assert values.shape == (n, 1)
        if output["name"] == "probability":
            expected = [o["probabilities"]["bad"] for o in own]
        else:
            expected = [o[output["name"]] for o in own]
        assert values.ravel().tolist() == expected


def test_the_client_gets_the_outputs_it_wants(client):
    wanted = [http.InferRequestedOutput(name, binary_data=False) for name in ("high", "low")]
    version = bundle("homes").version
    found = client.infer("homes", tensors("homes", whole("homes", 2)), version, outputs=wanted)
    assert [output["name"] for output in found.get_response()["outputs"]] == ["high", "low"]
    assert found.as_numpy("prediction") is None


def test_the_client_may_send_several_at_once(client):
    records = whole("loans", 20)
    calls = [client.async_infer("loans", tensors("loans", [record])) for record in records]
    alone = [call.get_result().as_numpy("probability").item() for call in calls]
    together = client.infer("loans", tensors("loans", records)).as_numpy("probability")
    assert alone == pytest.approx(together.ravel())


def test_the_client_is_told_what_is_wrong(client):
    record = whole("machines", 1)[0]
    for wrong, said in [
        ({"speed": 1e39}, "row 1: speed is 1e+39, and no number may be beyond 3.4e+38"),
        ({"speed": np.nan}, "row 1: speed is NaN, which JSON does not have"),
        ({"cd": ""}, "row 1: cd must not be empty"),
    ]:
        with pytest.raises(http.InferenceServerException, match="^.*" + said.replace("+", r"\+")):
            client.infer("machines", tensors("machines", [record | wrong]))
    with pytest.raises(http.InferenceServerException, match="the input speed is missing"):
        client.infer("machines", tensors("machines", [record])[1:])
    with pytest.raises(http.InferenceServerException, match="there is no case none; there are"):
        client.infer("none", tensors("machines", [record]))
    with pytest.raises(http.InferenceServerException, match="the body must not be compressed"):
        inputs = tensors("machines", [record])
        client.infer("machines", inputs, request_compression_algorithm="gzip")


def test_the_client_is_told_that_tensors_are_json(client):
    tensor = http.InferInput("speed", [1], "FP64").set_data_from_numpy(np.ones(1))
    with pytest.raises(http.InferenceServerException, match="binary tensors are not taken"):
        client.infer("machines", [tensor])


# Its messages


@pytest.mark.parametrize("case", CASES)
def test_gaps_are_null(service, case):
    records = running.rows(case, 40)
    assert any(None in record.values() for record in records) or case == "machines"
    scores = bundle(case).score(columns(records)).tolist()
    found = outputs(infer(service, case, request(case, records)))
    assert found["probability" if case == "loans" else "prediction"] == scores


@often
@given(data=st.data())
def test_a_tensor_may_be_written_in_several_ways(service, data):
    records = whole("machines", 3)
    content = request("machines", records)
    expected = outputs(infer(service, "machines", content))
    for tensor in content["inputs"]:
        if data.draw(st.booleans()):
            tensor["shape"] = [3, 1]
            if data.draw(st.booleans()):
                tensor["data"] = [[value] for value in tensor["data"]]
        if tensor["datatype"] == "FP64":
            types = ["FP64", "FP32", "INT32", "UINT16", "INT64", "BF16"]
            tensor["datatype"] = data.draw(st.sampled_from(types))
        if data.draw(st.booleans()):
            tensor["parameters"] = {"a": {"a:b": [1]}}
    content["inputs"] = data.draw(st.permutations(content["inputs"]))
    assert outputs(infer(service, "machines", content)) == expected


@pytest.mark.parametrize("values", [[True], [[True]]])
def test_a_truth_value_is_a_number(service, values):
    one = outputs(infer(service, "machines", changed("machines", "speed", data=[1])))
    said = changed("machines", "speed", datatype="BOOL", shape=[1, 1], data=values)
    assert outputs(infer(service, "machines", said)) == one


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("a", True), ("ü☃\x00" * 50, True), (":" * 9, True), ("", False), (None, False)],
)
def test_a_request_may_have_an_id(service, sent, kept):
    answer = infer(service, "machines", request("machines", [typical("machines")], id=sent))
    expected = sent if kept else answer.headers["x-request-id"]
    assert answer.json()["id"] == expected


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"shape": [2]}, "the input speed has the shape [2] and 1 values"),
        ({"shape": []}, "the input speed has the shape [] and 1 values"),
        ({"shape": [-1]}, "it must be [n] or [n, 1] with n values"),
        ({"shape": [1, 1, 1]}, "it must be [n] or [n, 1] with n values"),
        ({"shape": [1, 2], "data": [1, 2]}, "it must be [n] or [n, 1] with n values"),
        ({"shape": [2], "data": [1, 2]}, "has 1 rows, and others have 2"),
        ({"shape": [0], "data": []}, "the inputs are empty; send at least one row"),
        ({"shape": [10_001], "data": [1] * 10_001}, "10001 rows are too many for one request"),
        ({"datatype": "FP128"}, "the input speed must be FP64, and is FP128"),
        ({"datatype": "BYTES", "data": ["1"]}, "the input speed must be FP64, and is BYTES"),
        ({"datatype": "INT64", "data": [1.5]}, "row 1: speed is 1.5, which is no INT64"),
        ({"datatype": "UINT8", "data": [-1]}, "row 1: speed is -1, which is no UINT8"),
        ({"datatype": "INT8", "data": [128]}, "row 1: speed is 128, which is no INT8"),
        ({"datatype": "BOOL", "data": [1]}, "a list of truth values; it has a number"),
        ({"datatype": "BOOL", "data": [None]}, "row 1: speed must not be null"),
        ({"data": [None]}, "row 1: speed must not be null: no training row was without it"),
        ({"data": ["33"]}, "row 1: the data of speed must be a list of numbers; it has a text"),
        ({"data": [True]}, "list of numbers; it has true or false"),
        ({"data": [[1], []]}, "row 2: the data of speed must be a list of numbers; one a row"),
        ({"data": [[1, 2]]}, "row 1: the data of speed must be a list of numbers; one a row"),
        ({"data": [[[1]]]}, "row 1: the data of speed must be a list of numbers; it has a list"),
        ({"data": 33}, "the data of speed must be a list of numbers; it has a number"),
        ({"data": {"0": 33}}, "the data of speed must be a list of numbers; it has an object"),
        (
            {"data": [10**400]},
            "must be a list of numbers; it has a number beyond all limits",
        ),
        ({"data": [-1e39]}, "row 1: speed is -1e+39, and no number may be beyond 3.4e+38"),
    ],
)
def test_a_wrong_tensor_is_named(service, members, said):
    problem = refused(
        infer(service, "machines", changed("machines", "speed", **members)),
        413 if "too many" in said else 422, said,
    )  # fmt: skip
    assert problem["error"] == problem["detail"]
    if said.startswith("row"):
        assert (problem["row"], problem["column"]) == (int(said[4]), "speed")


def test_a_wrong_list_of_tensors_is_refused(service):
    one = request("machines", [typical("machines")])
    inputs = one["inputs"]
    for content, said in [
        ({"inputs": []}, "the input speed is missing"),
        ({"inputs": inputs[1:]}, f"the input {inputs[0]['name']} is missing"),
        ({"inputs": inputs + inputs[:1]}, "the input speed is there twice; send it once"),
        ({"inputs": [*inputs, inputs[0] | {"name": "x"}]}, "the input x is not known to this"),
        (one | {"outputs": [{"name": "x"}]}, "there is no output x; there are prediction, low"),
    ]:
        refused(infer(service, "machines", content), 422, said)


@pytest.mark.parametrize(
    ("old", "new", "status", "said"),
    [
        ('"inputs"', '"id": "a", "id": "b", "inputs"', 422, "an object has the key id twice"),
        ('"inputs"', r'"id": "a", "id": "a\u003ab", "inputs"', 422, "the key id twice"),
        ('"inputs"', r'"x": {"\ud800": 1, "\ud800": 1}, "inputs"', (400, 422), ""),
        ('"inputs"', '"x": {"datatype": 1, "datatype": 1}, "inputs"', 422, "key datatype twice"),
        ('"data"', '"data": [1], "data"', 422, "the input speed has the key data twice"),
        ('"inputs"', '"x": 1' + "0" * 5000 + ', "inputs"', (200, 400), ""),
        ('"inputs"', '"x": NaN, "inputs"', 400, "the body is not JSON"),
        ('"inputs"', '"x": "\xff", "inputs"', 400, "the body is not UTF-8"),
        ('"inputs"', '"x":' + "[" * 100_000 + "]" * 100_000 + ', "inputs"', 400, "too deeply"),
        ('"data": [33', '"data": [NaN', 400, "row 1: speed is NaN, which JSON does not have"),
        ('"data": [33', '"data": [[Infinity]', 400, "row 1: speed is Infinity, which JSON"),
        ('"no"', '"n\xff"', 400, "row 1: cd has a text that is not valid Unicode"),
        ('"no"', r'"\ud800"', 400, "row 1: cd has a text that is not valid Unicode"),
        ('"data": [33', '"data": [' + "[" * 100_000, 400, ""),
        ('"inputs"', '"id": 5, "inputs"', 400, "no inference request: expected `str | null`"),
        ('"shape": [1]', '"shape": 1', 400, "expected `array`, got `int` - at `$.inputs[0].shape`"),
        ('"shape": [1], ', "", 400, "missing required field `shape` - at `$.inputs[0]`"),
        ('{"inputs"', '[{"inputs"', 400, "expected `object`, got `array`"),
        ('{"inputs"', '{"in": 1, "outputs"', 400, "no inference request"),
        ("}", "", 400, ""),
    ],
)
def test_a_body_that_is_no_request_is_refused(service, old, new, status, said):
    usual = json.dumps(request("machines", [typical("machines") | {"speed": 33, "cd": "no"}]))
    answer = infer(service, "machines", usual.replace(old, new, 1).encode("latin-1"))
    if isinstance(status, tuple):
        assert answer.status_code in status
    else:
        refused(answer, status, said)
    if answer.status_code >= 400:
        assert answer.json()["error"] == answer.json()["detail"]
        assert "sys." not in answer.text


@often
@given(body=st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["inputs", "outputs", "name", "shape", "datatype", "data", "id"]), inner),
))  # fmt: skip
def test_other_json_is_refused(service, body):
    answer = infer(service, "machines", json.dumps(body))
    refused(answer, 422 if answer.status_code == 422 else 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/none", 404),
        ("GET", "/v2/models/loans/versions/1", 404),
        ("POST", "/v2/models/loans/versions/1/infer", 404),
        ("GET", "/v2/models/loans/infer", 405),
        ("POST", "/v2", 405),
    ],
)
def test_what_is_not_there_is_refused_in_both_ways(service, method, path, status):
    body = written(typical("loans")).encode()
    problem = refused(service.client.request(method, path, content=body), status)
    assert problem["error"] == problem["detail"]
