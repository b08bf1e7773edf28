"""Templates that people publish, and some that nobody should."""

from pathlib import Path

from hexgrid.chat.renderer import Job

_DIRECTORY = Path(__file__).parents[1] / "data/chat_templates"
PUBLISHED = {path.stem: path.read_text() for path in sorted(_DIRECTORY.glob("*.jinja"))}
# Plain ChatML: what vLLM's answers were recorded with.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HELLO = [{"role": "user", "content": "hello"}]


def job(template: str, messages: list[dict[str, str]] | None = None, **variables: object) -> Job:
    """One conversation, "hello" if none is given."""
    return Job(template, {"messages": messages or HELLO, **variables}, False)
