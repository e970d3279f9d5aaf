"""Lists: the SDK's automatic pagination, and its pages by hand."""

from tests.acceptance.client.scene import Scene, same, scenario, text_of


@scenario(213, 89)
def two_hundred_and_fifty_objects_come_once_each(scene: Scene) -> None:
    """Auto-pagination over many pages, in both orders, with pages of any size."""
    messages = scene.client.beta.threads.messages
    texts = [str(number) for number in range(250)]
    thread = scene.thread(*texts)
    ascending = list(messages.list(thread.id, order="asc", limit=100))
    same([text_of(one) for one in ascending], texts)
    same(len({one.id for one in ascending}), 250)
    same([one.id for one in messages.list(thread.id)], [one.id for one in reversed(ascending)])


@scenario(210)
def pages_are_walked_in_both_directions(scene: Scene) -> None:
    """`after` goes on, `before` goes back; each object comes once."""
    messages = scene.client.beta.threads.messages
    thread = scene.thread(*[str(number) for number in range(10)])
    page = messages.list(thread.id, order="asc", limit=3)
    seen = [text_of(one) for one in page.data]
    while page.has_next_page():
        page = page.get_next_page()
        assert len(page.data) <= 3
        seen += [text_of(one) for one in page.data]
    same(seen, [str(number) for number in range(10)])
    back: list[str] = []
    before = page.data[-1].id
    while data := messages.list(thread.id, order="asc", limit=3, before=before).data:
        back = [text_of(one) for one in data] + back
        before = data[0].id
    same(back, [str(number) for number in range(9)])


@scenario(211)
def an_empty_list_ends_at_once(scene: Scene) -> None:
    """No objects, no next page."""
    page = scene.client.beta.threads.messages.list(scene.thread().id)
    same((page.data, page.has_next_page(), page.has_more), ([], False, False))
    extra = page.to_dict()
    same((extra["first_id"], extra["last_id"], extra["object"]), (None, None, "list"))


@scenario(87)
def messages_are_listed_by_run(scene: Scene) -> None:
    """`run_id` shows only what that run wrote."""
    assistant, thread = scene.assistant(), scene.thread("Hello")
    first, second = scene.run(thread, assistant), scene.run(thread, assistant)
    messages = scene.client.beta.threads.messages
    for run in (first, second):
        (message,) = messages.list(thread.id, run_id=run.id)
        same((message.run_id, message.role), (run.id, "assistant"))
    same(len(scene.messages(thread.id)), 3)


@scenario(212)
def a_deleted_cursor_still_continues(scene: Scene) -> None:
    """Frameworks delete while they page."""
    messages = scene.client.beta.threads.messages
    thread = scene.thread(*[str(number) for number in range(5)])
    page = messages.list(thread.id, order="asc", limit=2)
    for message in page.data:
        messages.delete(message.id, thread_id=thread.id)
    rest = [text_of(one) for one in page.get_next_page()]
    same(rest, ["2", "3", "4"])
