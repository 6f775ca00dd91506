"""The order of conditions as a tree: each one below what it comes after."""

from orchestrator._core.order import Branch, as_tree


def drawn(after: dict[str, tuple[str, ...]], names: list[str]) -> list[str]:
    return [
        "  " * one.depth + one.name + (f" also {', '.join(one.also)}" if one.also else "")
        for one in as_tree(after, names)
    ]


def test_each_stands_below_the_last_of_what_it_comes_after() -> None:
    after = {
        "listener": ("redis", "database"),
        "database": ("redis",),
        "bridge": ("auth", "database"),
    }
    assert drawn(after, ["listener", "bridge", "warm-cache", "database", "auth"]) == [
        "redis",
        "  database",
        "    listener",
        "    bridge also auth",
        "warm-cache",
        "auth",
    ]


def test_without_an_order_it_is_a_list_and_the_probe_is_left_out() -> None:
    assert drawn({}, ["b", "a"]) == ["b", "a"]
    assert drawn({"b": ("a",)}, ["b", "a"]) == ["a", "  b"]


def test_an_order_from_elsewhere_that_makes_no_sense_is_drawn_flat() -> None:
    circle = as_tree({"a": ("b",), "b": ("a", "nowhere")}, ["a", "b"])
    assert circle == [Branch("a", 0), Branch("b", 0)]
    assert drawn({"a": ("nowhere",)}, ["a"]) == ["a"]
    names = [str(number) for number in range(3000)]
    chain = {names[n]: (names[n - 1],) for n in range(1, 3000)}
    assert as_tree(chain, names)[-1].depth == 2999
