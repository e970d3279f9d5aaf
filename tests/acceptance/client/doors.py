"""Other ways in: raw responses, other prefixes, Azure's client, repeated requests."""

from typing import Any

import openai

from tests.acceptance.client.scene import (
    TIMEOUT_S,
    WEATHER,
    Scene,
    call,
    outputs,
    refused,
    rehearse,
    same,
    scenario,
    text_of,
)


@scenario(18)
def raw_responses_have_their_headers(scene: Scene) -> None:
    """Request ids, the version and the processing time."""
    raw = scene.client.beta.assistants.with_raw_response.create(model=scene.model)
    same(raw.headers["openai-version"], "2020-10-01")
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.request_id is not None and raw.request_id.startswith("req_")
    made = raw.parse()
    same((made.model, made._request_id), (scene.model, raw.request_id))
    thread = scene.client.beta.threads.create()
    assert thread._request_id is not None and thread._request_id.startswith("req_")
    with scene.client.beta.threads.with_streaming_response.retrieve(thread.id) as streamed:
        same(streamed.parse(), thread)


@scenario(145, 146)
def a_raw_stream_is_event_stream(scene: Scene) -> None:
    """The frames as they go over the wire."""
    thread = scene.thread(rehearse([{"text": "Hello."}]))
    with scene.client.beta.threads.runs.with_streaming_response.create(
        thread_id=thread.id, assistant_id=scene.assistant().id, stream=True
    ) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        lines = list(raw.iter_lines())
    same(lines[-3:], ["event: done", "data: [DONE]", ""])
    for number, line in enumerate(lines):
        start = ("event: ", "data: ", "")[number % 3]
        assert line.startswith(start) and (start or not line), (number, line)


@scenario(3)
def the_azure_client_drives_a_run(scene: Scene) -> None:
    """/openai/... with an api-key, with and without a deployment."""
    for deployment in (None, "gpt-4o"):
        more: dict[str, Any] = {} if deployment is None else {"azure_deployment": deployment}
        client = openai.AzureOpenAI(
            azure_endpoint=scene.root,
            api_key=scene.key,
            api_version="2024-05-01-preview",
            timeout=TIMEOUT_S,
            max_retries=0,
            _strict_response_validation=True,
            **more,
        )
        with client:
            _drive(client, scene)


@scenario(2, 4)
def other_prefixes_drive_a_run(scene: Scene) -> None:
    """Without /v1, and Azure's newer form."""
    for prefix in ("", "/openai/v1/"):
        with openai.OpenAI(
            base_url=scene.root + prefix, api_key=scene.key, timeout=TIMEOUT_S, max_retries=0
        ) as client:
            _drive(client, scene)


def _drive(client: openai.OpenAI, scene: Scene) -> None:
    """An assistant, a thread, a call, its output, a stream."""
    threads = client.beta.threads
    assistant = client.beta.assistants.create(model=scene.model, tools=[WEATHER])
    prompt = rehearse([call("get_weather", city="Oslo")], [{"text": "Rain."}])
    thread = threads.create(messages=[{"role": "user", "content": prompt}])
    run = threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    with threads.runs.submit_tool_outputs_stream(
        run_id=run.id, thread_id=thread.id, tool_outputs=outputs(run, "rain")
    ) as stream:
        stream.until_done()
    same(stream.get_final_run().status, "completed")
    same(text_of(stream.get_final_messages()[0]), "Rain.")
    same(client.beta.assistants.delete(assistant.id).deleted, True)


@scenario(26, 27)
def a_repeated_request_is_answered_once(scene: Scene) -> None:
    """The same Idempotency-Key: the same thread; with another body: refused."""
    threads = scene.client.beta.threads
    headers = {"Idempotency-Key": scene.model}
    first = threads.create(metadata={"n": "1"}, extra_headers=headers)
    again = threads.create(metadata={"n": "1"}, extra_headers=headers)
    same(first.id, again.id)
    try:
        threads.create(metadata={"n": "2"}, extra_headers=headers)
    except openai.BadRequestError as error:
        same(error.status_code, 400)
    else:
        raise AssertionError("another body was accepted")


@scenario(10)
def unknown_headers_do_no_harm(scene: Scene) -> None:
    """Gateways add their own; an organization and a project may be named."""
    client = scene.client.with_options(
        default_headers={"x-portkey-provider": "openai", "OpenAI-Beta": "assistants=v1"},
        organization="org-123",
        project="proj_456",
    )
    same(client.beta.assistants.create(model=scene.model).model, scene.model)
    with refused(openai.NotFoundError, "No assistant found with id 'asst_unknown'."):
        client.beta.assistants.retrieve("asst_unknown")
