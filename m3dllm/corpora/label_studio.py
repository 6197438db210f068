"""Label Studio JSON: spans, relations, rectangles in images and videos. A task is a document.

Offsets are held against the words that stand beside them, in code points or UTF-16 units, a CR LF as one character or
two, whichever agree. Boxes are percents; frames of videos count from 1 there and from 0 here, and a rectangle is where
Label Studio shows it between its keyframes. Of several annotations of a task one is taken.
What stands in one result is read by `label_studio_results`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from m3dllm.corpora.brat import COREFERENCE
from m3dllm.corpora.documents import JSON, read_documents, scan_documents
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import confidence, keys, note_unread, objects, real, whole_number, words
from m3dllm.corpora.label_studio_results import (
    Span,
    are_of,
    box_between,
    box_of,
    id_of,
    images_of,
    in_one,
    is_of_sound,
    is_video,
    labels_of,
    original_size,
    says,
    shows_file,
    spans_of,
    unfit,
    value_of,
)
from m3dllm.corpora.marks import Marks, language_of, offset_table
from m3dllm.corpora.sources import Incoming, files_at
from m3dllm.corpora.stills import Size, find_image, still
from m3dllm.errors import UserError
from m3dllm.types import TASKS, Document, Example, Frame, Lang, Region, Segment, Task
from m3dllm.wire import WireError, convert

_NO_SIZE = "the size of its video is not given: pass --video-size"
_USED = ("labels", "rectanglelabels", "videorectangle", "relation")
_DRAWN = re.compile(r"(rectangle|polygon|ellipse|brush|keypoint|bitmask|vector|magicwand)(labels)?")
"""The kinds of results that are drawn on an image; others say something of it, or of what is drawn."""
_BOX = keys("x y width height rotation frame time enabled")
_SPAN = "start end text labels rectanglelabels framesCount duration x y width height rotation"
_RESULT = keys(
    "id type from_name to_name item_index original_width original_height origin from_id to_id direction labels",
    value=keys(_SPAN, sequence=[_BOX]),
)
_MADE = keys(
    "id result was_cancelled ground_truth completed_by created_at updated_at created_username created_ago lead_time "
    "draft_created_at prediction result_count unique_id import_id last_action last_created_by bulk_created task "
    "project updated_by parent_prediction parent_annotation model_version model model_run score cluster neighbors "
    "mislabeling"
)
"""Of an annotation or a prediction: its results are looked at where it is taken; the rest is who made it, and when."""
_TASK = keys(
    "id inner_id data project created_at updated_at updated_by file_upload total_annotations cancelled_annotations "
    "total_predictions is_labeled overlap comment_count unresolved_comment_count last_comment_updated_at "
    "comment_authors annotators annotations_ids predictions_model_versions avg_lead_time completed_at",
    annotations=[_MADE],
    completions=[_MADE],
    predictions=[_MADE],
)
_DATA = keys(
    "id lang title group tokens segments unannotated", frames=[keys("image index time_s annotated width height")]
)


def read_label_studio(
    path: Path,
    *,
    lang: Lang | None = None,
    images: Path | None = None,
    video_size: str | None = None,
    predictions: bool = False,
    coreference: Sequence[str] = COREFERENCE,
    split: str | None = None,
) -> Imported:
    """The tasks of the export, or of the exports in the folder, at `path`.

    - `lang`: the language of all documents; default: the `lang` of the data, else detected.
    - `images`: the folder of the images; default: next to the export.
    - `video_size`: WIDTHxHEIGHT of the videos in pixels, if the results do not give it.
    - `predictions`: import the pre-annotations (predictions) instead of the annotations.
    - `coreference`: the names of relations that link coreferent mentions; case is ignored.
    - `split`: the split to write; default: from the file names.

    Raises UserError where a file is no export with results, or there is no task.
    """
    incoming = Incoming()
    options = _Options(lang, images, _size(video_size), predictions, frozenset(map(str.casefold, coreference)))
    for file in files_at(path, JSON, "a JSON export of Label Studio", incoming.notes):
        known, annotated, links = False, False, set[str]()
        try:
            for task in scan_documents(file, keys=("data",)):
                known |= _is_task(task)
                annotated |= bool(_made(task))
                links |= set(map(str.casefold, _links(task)))
        except UserError as error:
            if file == path:
                raise
            incoming.notes.leave_out("file", "it is not a JSON export of Label Studio", str(error))
            continue
        if not known and file == path:
            raise UserError.at(file, "is not a JSON export of Label Studio: no task in it has data (JSON-MIN has none)")
        if not known:
            incoming.notes.leave_out("file", "it is not a JSON export of Label Studio", file.name)
            continue
        part = split or incoming.split_of(file, path)
        linked = bool(links - options.coreference), bool(links & options.coreference)
        for row in read_documents(file, incoming.notes, keys=("data",)):
            where = row.at(file.name)
            if not _is_task(row.value):
                incoming.notes.leave_out("document", "it has no data", where)
            elif incoming.is_again(words(row.value.get("id")), repr(row.value["data"]), part, file, where):
                continue
            elif example := _Task(row.value, where, file, incoming, options, annotated, *linked).example():
                incoming.add(part, example)
    return incoming.done(path)


@dataclass(frozen=True, slots=True)
class _Options:
    lang: Lang | None
    images: Path | None
    video_size: Size | None
    predictions: bool
    coreference: frozenset[str]


def _size(text: str | None) -> Size | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise UserError(f"--video-size {text}: expected WIDTHxHEIGHT in pixels, such as 1280x720")
    return int(width), int(height)


def _is_task(task: object) -> bool:
    return isinstance(task, dict) and isinstance(task.get("data"), dict)


def _made(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations of a task, the cancelled ones too."""
    return objects(task.get("annotations")) or objects(task.get("completions"))


def _links(task: dict[str, Any]) -> Iterator[str]:
    """The labels of all relations of a task, whoever made them."""
    for key in ("annotations", "completions", "predictions"):
        for made in objects(task.get(key)):
            for result in objects(made.get("result")):
                yield from labels_of(result, "labels") if result.get("type") == "relation" else ()


@dataclass(slots=True)
class _Pictures:
    """The images of a task by the name of the control that shows them, and by their position in it."""

    frames: dict[tuple[str, int], tuple[Frame, Size | None]] = field(default_factory=dict)

    def of(self, result: dict[str, Any]) -> tuple[Frame, Size | None] | None:
        """The frame that a result is drawn in: by its control, else the only one there is."""
        name, item = words(result.get("to_name")), whole_number(result.get("item_index")) or 0
        found = self.frames.get((name, item)) or self.frames.get((name, 0))
        if found is None and len({control for control, _ in self.frames}) == 1:
            control = next(iter(self.frames))[0]
            found = self.frames.get((control, item))
        return found


@dataclass(slots=True)
class _Task:
    """One task on its way to a document."""

    task: dict[str, Any]
    where: str
    file: Path
    incoming: Incoming
    options: _Options
    annotated: bool
    """Whether any task of the file is: its pre-annotations are no gold, then."""
    relations: bool
    coreference: bool

    @property
    def notes(self) -> Imported:
        return self.incoming.notes

    def example(self) -> Example | None:
        data = self.task["data"]
        made = self._results()
        results = [one for one in made or () if not self._passed_over(one)]
        key, results = self._of_the_text(results)
        text = data[key] if key else ""
        note_unread(self.task, _TASK, self.where, self.notes)
        shown = {control for control, *_ in images_of(data)} | self._videos()
        note_unread(data, _DATA | dict.fromkeys((*shown, key or "text")), f"{self.where}.data", self.notes)
        number = words(self.task.get("id"))
        name = self.incoming.id_for(
            words(data.get("id")) or number, f"{self.file.stem}-{len(self.incoming.ids)}", self.where
        )
        pictures, stills = self._pictures(name, results)
        if key is None and not stills:
            videos = any(result.get("type") == "videorectangle" for result in results)
            why = _NO_SIZE if videos else "it has neither a text nor an image with a size"
            self.notes.leave_out("document", why, self.where)
            return None
        marks = Marks(text, self.notes, self.where)
        self._mark(marks, results, pictures, {frame.index for frame in stills})
        for other in made or ():  # outlines, masks, keypoints: drawn, and of no use
            kind = words(other.get("type"))
            if kind not in _USED and _DRAWN.fullmatch(kind) and (frame := pictures.of(other)):
                marks.spoil(frame[0].index)
        about = self._about(data, text)
        kind = language_of(text, self.options.lang, data.get("lang"))
        document = Document(name, kind, text, frames=marks.annotated_frames(stills), **about)
        return Example(document, marks.gold(), self._unannotated(data, made, bool(text)))

    # --- which results ---

    def _results(self) -> list[dict[str, Any]] | None:
        """The results of the annotation that is taken: the ground truth, else the first that was not cancelled.

        None where nobody annotated the task.
        """
        made = _made(self.task)
        kept = [one for one in made if not one.get("was_cancelled")]
        for _ in range(len(made) - len(kept)):
            self.notes.leave_out("annotation", "it was cancelled", self.where)
        guesses = objects(self.task.get("predictions"))
        if self.options.predictions or not self.annotated:
            if not self.options.predictions and guesses:
                self.notes.change("document", "it has no annotation: its pre-annotations were used", self.where)
            kept = guesses
        elif not kept and guesses:
            why = "nobody annotated its task: '--predictions' imports pre-annotations"
            self.notes.leave_out("pre-annotation", why, self.where)
        kept.sort(key=lambda one: not one.get("ground_truth"))
        for other in kept[1:]:
            self.notes.leave_out(
                "annotation", "another annotation of its task is used", f"{self.where}: {other.get('id', '')}"
            )
        if not kept:
            return None
        results = objects(kept[0].get("result"))
        known = _RESULT | ({"score": None} if kept is guesses else {})  # what a person took over has no confidence
        note_unread(kept[0].get("result"), [known], f"{self.where}: result", self.notes)
        return in_one(results if kept is guesses else [result | {"score": None} for result in results])

    def _passed_over(self, result: dict[str, Any]) -> bool:
        """Whether a result is of a kind that a corpus has no place for; it is noted."""
        kind = words(result.get("type"))
        sound = kind == "labels" and is_of_sound(result)
        if kind in _USED and not sound:
            return False
        why = "it is of a sound or a series" if sound else f"a corpus cannot represent results of type {kind!r}"
        self.notes.leave_out("result", why, f"{self.where}: {result.get('id', '')}")
        return True

    # --- the document ---

    def _of_the_text(self, results: list[dict[str, Any]]) -> tuple[str | None, list[dict[str, Any]]]:
        """(the data that the spans are of, the results without the spans of other texts of the task).

        It is the string in which most of their words stand; `text`, where as many stand in it.
        """
        data = self.task["data"]
        strings: list[str] = [
            key for key, value in data.items() if isinstance(value, str) and not shows_file(key, value)
        ]
        strings.sort(key=lambda key: key != "text")
        spans: dict[str, list[Span]] = {}
        for result in results:
            if result.get("type") == "labels":
                spans.setdefault(words(result.get("to_name")), []).extend(spans_of([result]))
        if not strings or (not spans and "text" not in strings):
            return None, results
        said = {to: {key: sum(says(data[key], one) for one in held) for key in strings} for to, held in spans.items()}
        key = max(strings, key=lambda key: sum(of[key] for of in said.values()))
        others = {to for to, of in said.items() if len(strings) > 1 and not are_of(key, to, of, spans[to], said)}
        for to in others:
            for one in spans[to]:
                detail = f"{self.where}: {one[0]} of {to!r}: {one[3] or ''!r}"
                self.notes.leave_out("mention", "it is of another text of its task", detail)
        return key, [r for r in results if r.get("type") != "labels" or words(r.get("to_name")) not in others]

    def _videos(self) -> set[str]:
        """The data that the controls of results show, such as a video: only the frames that are drawn in come in."""
        return {key for key, value in self.task["data"].items() if isinstance(value, str) and is_video(key, value)}

    def _about(self, data: dict[str, Any], text: str) -> dict[str, Any]:
        """Title, group, tokens and segments, where `m3dllm export` wrote them."""
        found: dict[str, Any] = {key: data[key] for key in ("title", "group") if isinstance(data.get(key), str)}
        kinds: tuple[tuple[str, Any], ...] = (
            ("tokens", tuple[tuple[int, int], ...]),
            ("segments", tuple[Segment, ...]),
        )
        for key, kind in kinds:
            try:
                value = convert(data.get(key) or [], kind)
                Document("x", "en", text, **{key: value})
                found[key] = value
            except (WireError, ValueError):
                self.notes.leave_out(key, f"they are not {key} of the text", self.where)
        return found

    def _unannotated(self, data: dict[str, Any], made: list[dict[str, Any]] | None, text: bool) -> frozenset[Task]:
        """What nobody annotated: as our own export says; else all, where nobody annotated the task, mentions, where
        its results are of other kinds, and links, where no task of the file has any."""
        if "frames" in data:
            unannotated = data.get("unannotated")
            return frozenset(task for task in TASKS if isinstance(unannotated, list) and task in unannotated)
        if made is None:
            return frozenset(TASKS)
        found: set[Task] = set() if self.relations else {"relation"}
        found |= set() if self.coreference else {"chain"}
        if not text or (made and not any(one.get("type") == "labels" and not is_of_sound(one) for one in made)):
            found |= {"entity", "chain", "relation"}
        return frozenset(found)

    def _pictures(self, name: str, results: list[dict[str, Any]]) -> tuple[_Pictures, list[Frame]]:
        pictures = _Pictures()
        frames: list[Frame] = []
        folders = [self.options.images] if self.options.images else [self.file.parent, self.file.parent / "images"]
        sizes = {(words(r.get("to_name")), whole_number(r.get("item_index")) or 0): original_size(r) for r in results}
        for control, position, index, source, about in images_of(self.task["data"]):
            size = original_size(about) or sizes.get((control, position)) or next(filter(None, sizes.values()), None)
            where = f"{self.where}: {source}"
            if index < 0 or any(frame.index == index for frame in frames):
                self.notes.leave_out("frame", "its number is negative or already used", f"{where}: {index}")
                continue
            time_s, drawn = real(about.get("time_s")), about.get("annotated", True) is not False
            image = find_image(source, folders)
            frame = still(name, index, image, size, self.notes, where=where, annotated=drawn, time_s=time_s)
            if frame:
                pictures.frames[control, position] = frame, size
                frames.append(frame)
        for result in results:
            if result.get("type") == "videorectangle":
                frames += self._video_frames(name, result, {frame.index for frame in frames})
        return pictures, sorted(frames, key=lambda frame: frame.index)

    def _video_frames(self, name: str, result: dict[str, Any], known: set[int]) -> Iterator[Frame]:
        """The frames of a video in which a rectangle has a keyframe."""
        size = original_size(result) or self.options.video_size
        for key in objects(value_of(result).get("sequence")):
            number = whole_number(key.get("frame"))
            if size and number and number > 0 and number - 1 not in known:
                known.add(number - 1)
                where = f"{self.where}: frame {number}"
                if frame := still(name, number - 1, None, size, self.notes, where=where, time_s=real(key.get("time"))):
                    yield frame

    # --- the marks ---

    def _mark(self, marks: Marks, results: list[dict[str, Any]], pictures: _Pictures, frames: set[int]) -> None:
        spans = list(spans_of(results))
        units = self._units(marks.text, spans)
        sure = {id_of(result, n): confidence(result.get("score")) for n, result in enumerate(results)}
        for name, start, end, surface, kinds in spans:
            for other in kinds[1:]:
                self.notes.leave_out("type of a mention", "it has another one", f"{self.where}: {surface!r}: {other}")
            first, last = (units[at] if 0 <= at < len(units) else -1 for at in (start, end))
            marks.mention(name, first, last, kinds[0] if kinds else "", surface=surface, confidence=sure[name])
        drawn: dict[str, list[tuple[str, Region]]] = {}
        for n, result in enumerate(results):
            name = id_of(result, n)
            if result.get("type") == "rectanglelabels":
                drawn[name] = list(self._rectangle(result, pictures, marks))
            elif result.get("type") == "videorectangle":
                drawn[name] = list(self._track(result, frames, marks))
        shown: dict[str, str] = {}
        mentions = {span[0] for span in spans}
        for result in results:
            if result.get("type") == "relation":
                self._relation(marks, result, mentions, drawn, shown)
        for name, regions in drawn.items():
            for where, region in regions:
                if region.frame in frames:
                    marks.shows(region, where, shown.get(name))
                else:
                    self.notes.leave_out("region", "its frame is missing or has no size", where)

    def _relation(
        self,
        marks: Marks,
        result: dict[str, Any],
        mentions: set[str],
        drawn: dict[str, list[tuple[str, Region]]],
        shown: dict[str, str],
    ) -> None:
        head, tail = words(result.get("from_id")), words(result.get("to_id"))
        if result.get("direction") == "left":
            head, tail = tail, head
        labels = labels_of(result, "labels")
        where = f"{self.where}: {head} to {tail}"
        if result.get("direction") == "bi" and labels:
            self.notes.change("relation", "it is bidirectional: read from its first end to its second", where)
        if head in drawn or tail in drawn:
            region, mention = (head, tail) if head in drawn else (tail, head)
            if mention in mentions and region not in shown:
                shown[region] = mention
            else:
                self.notes.leave_out("relation", "one of its ends is a region", where)
            return
        if any(label.casefold() in self.options.coreference for label in labels):
            marks.join((head, tail), confidence=confidence(result.get("score")))
            return
        if not labels:
            self.notes.leave_out("relation", "it has no type", where)
        for label in labels:
            marks.relate(head, tail, label, confidence=confidence(result.get("score")))

    def _units(self, text: str, spans: list[Span]) -> Sequence[int]:
        """offset as the file counts -> character: where more of the words agree then, UTF-16 units, and a CR LF as one
        character, as browsers count."""
        wide, ends = not text.isascii() and max(map(ord, text)) > 0xFFFF, "\r\n" in text

        def agreeing(table: Sequence[int]) -> int:
            held = [s for s in spans if s[3] is not None and 0 <= s[1] < s[2] < len(table)]
            return sum(
                text[table[start] : table[end]].split() == surface.split()
                for _, start, end, surface, _ in held
                if surface
            )

        best: Sequence[int] = range(len(text) + 1)
        most, found = agreeing(best), ""
        for units, joined in product((False, True)[: 1 + wide], (False, True)[: 1 + ends]):
            table = offset_table(text, units=units, joined=joined)
            if (units or joined) and (n := agreeing(table)) > most:
                how = ["UTF-16 units"] * units + ["a line end as one character"] * joined
                best, most, found = table, n, " and ".join(how)
        if found:
            self.notes.change("document", f"its offsets count {found}", self.where)
        return best

    def _rectangle(self, result: dict[str, Any], pictures: _Pictures, marks: Marks) -> Iterator[tuple[str, Region]]:
        where = f"{self.where}: {result.get('id', '')}"
        found = pictures.of(result)
        kinds = labels_of(value_of(result), "rectanglelabels")
        box = box_of(value_of(result))
        if found is None:
            self.notes.leave_out("region", "its image is missing, or has no size", where)
        elif why := unfit(box, kinds, value_of(result)):
            self.notes.leave_out("region", why, where)
            marks.spoil(found[0].index)
        elif box:
            for kind in kinds:
                yield where, Region(found[0].index, box, kind, confidence=confidence(result.get("score")))

    def _track(self, result: dict[str, Any], frames: set[int], marks: Marks) -> Iterator[tuple[str, Region]]:
        """A rectangle in a video, in the frames that are there: at its keyframes, and between them where it is shown.

        It is shown from a keyframe to the next one, at the place that is as far on the way, but from one that is not
        `enabled`; from the last one on it stays.
        """
        kinds = labels_of(value_of(result), "labels")
        size = original_size(result) or self.options.video_size
        keyframes: dict[int, dict[str, Any]] = {}
        for key in objects(value_of(result).get("sequence")):
            number = whole_number(key.get("frame"))
            where = f"{self.where}: {result.get('id', '')}: frame {number}"
            if number is None or number < 1:
                self.notes.leave_out("region", "it has no frame number (counted from 1)", where)
            elif size is None:
                self.notes.leave_out("region", _NO_SIZE, where)
            elif number in keyframes:
                self.notes.leave_out("region", "another keyframe has its frame", where)
            else:
                keyframes[number] = key
        numbers = sorted(keyframes)
        for number in sorted({frame + 1 for frame in frames} if numbers else ()):
            after = bisect_right(numbers, number)
            if not after:
                continue
            here, there = numbers[after - 1], numbers[min(after, len(numbers) - 1)]
            first, last = keyframes[here], keyframes[there]
            if number != here and first.get("enabled") is False:
                continue
            where = f"{self.where}: {result.get('id', '')}: frame {number}"
            box = box_of(first) if number == here else box_between(first, last, (number - here) / max(there - here, 1))
            why = unfit(box, kinds, first) or (unfit(box, kinds, last) if number != here else None)
            if why:
                self.notes.leave_out("region", why, where)
                marks.spoil(number - 1)
            elif box:
                if number != here:
                    why = "its frame is not a keyframe: placed where Label Studio shows it"
                    self.notes.change("region", why, f"{where}, from {here} to {there}")
                for kind in kinds:
                    yield where, Region(number - 1, box, kind, confidence=confidence(result.get("score")))


IMPORTER = read_label_studio
