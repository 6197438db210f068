"""From raw output to a Prediction, in the same way for every system.

`normalize` never raises for the content of a payload, and nothing disappears silently: everything that could not be
used, or only after a repair, is one Issue; `CODES` explains the codes. A garbled answer, an empty answer and an empty
document never look alike: an empty annotation always has an Issue that gives the reason.

Whether a prediction is correct is left to the scorer: a relation between chains of the wrong types, a box outside the
frame or without area is kept as predicted.
"""

from __future__ import annotations

from collections.abc import Mapping

from m3dllm.labels import LabelSet
from m3dllm.normalize.reading import Reading
from m3dllm.types import Document, Prediction, RawOutput

CODES: Mapping[str, str] = {
    # an annotation without content
    "error": "the system failed on the document",
    "no_answer": "the system returned nothing",
    "not_json": "the answer contains no readable JSON object",
    "empty_answer": "the answer is valid and predicts nothing",
    "empty_document": "the answer is valid and predicts nothing for a document without text and frames",
    # the answer as a whole
    "truncated": "the answer was truncated; what was complete is kept",
    "repaired": "malformed JSON, or a number written as text, was repaired",
    "extra_answer": "a second answer follows the one that was read",
    "bad_shape": "the value does not have the expected form, or no value is expected there",
    "shortened": "the prompt did not fit into the model's context: examples or frames were dropped",
    "prompt_cut": "the server counted far fewer tokens than the prompt has: it answered without the whole document",
    "repetition": "the same elements occur three times in a row: they are read once, and the answer may be cut there",
    "copied_template": "mentions are copied from examples in the prompt, not from the document: they are dropped",
    "windows": "the text did not fit into the model's context: it was read in overlapping windows",
    # mentions and chains
    "text_not_found": "the text of a mention is not in the document (hallucinated)",
    "folded": "the text was found by ignoring case, width, spaces, quotation marks and dashes",
    "unaligned": "the text was found, but not on token boundaries",
    "fuzzy": "the text was found as a misspelling of words of the document",
    "occurrence_out_of_range": "the text does not occur that many times in the document",
    "bad_offsets": "the offsets are outside the text, or the text there is not the one given",
    "covered": "every occurrence of the text is inside a longer mention of the answer",
    "duplicate_mention": "the span is already in a chain of the answer, which keeps it",
    "duplicate_id": "another chain or region has the same id, and keeps the references to it",
    "repeated_chain": "all occurrences of the chain are in one earlier chain: references to it are read as that one",
    "empty_chain": "the chain has no usable mention",
    # types, confidences, relations, regions
    "unknown_type": "the type is missing, or not in the label set",
    "bad_confidence": "the confidence is not a number from 0 to 1; it is dropped",
    "dangling": "the reference is to no usable chain or region",
    "self_relation": "the relation joins a chain or region to itself",
    "duplicate_relation": "the relation was predicted before",
    "unknown_frame": "the document has no such frame",
    "no_box_size": "the units of the frame's boxes cannot be determined",
    "bad_box": "the box is not four numbers",
    "bad_geometry": "the box has no area or is not finite; it is kept, and the scorer counts it as wrong",
    "box_outside": "the box extends beyond the frame; it is kept as predicted",
    "box_convention": "the coordinates of the box are not in the unit declared for the model; it is kept",
}


def normalize(document: Document, raw: RawOutput, labels: LabelSet | None = None) -> Prediction:
    """The prediction in `raw` about `document`, with an Issue for everything wrong with it.

    Without `labels` every type is allowed. Raises ValueError only if `raw` answers another document.
    """
    if raw.document != document.id:
        raise ValueError(f"the answer is for document {raw.document!r}, not for {document.id!r}")
    reading = Reading(document, labels, raw.boxes)
    return Prediction(document.id, reading.annotation(raw), raw.given, (*raw.issues, *reading.issues), raw.frames)
