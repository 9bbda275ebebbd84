"""The API: what it answers, and that its description is true."""

import re

import cv2
import jsonschema
import numpy as np
import pytest

from match_rcnn.catalogue.model import GalleryModel
from match_rcnn.catalogue.query import search_photo
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.serving.app import TOKEN, find_model, openapi
from match_rcnn.serving.service import outline
from match_rcnn.structures import Garment

PNG = {"content-type": "image/png"}


def is_as_described(answer, path, method, status=200):
    """An answer's JSON, which must be of the form that the description says."""
    assert answer.status_code == status, answer.text
    described = openapi()
    said = described["paths"][path][method]["responses"][str(status)]
    schema = said["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": described["components"]}).validate(
        answer.json()
    )
    return answer.json()


def is_refused(answer, status, words):
    """One sentence says why."""
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    assert re.search(words, answer.json()["error"]), answer.json()
    assert "\n" not in answer.json()["error"]


class TestPredict:
    def test_what_the_predictor_finds(self, serving, photo, predictor):
        image, data = photo
        answer = serving().post("/predict", content=data, headers=PNG)
        found = is_as_described(answer, "/predict", "post")
        assert (found["width"], found["height"]) == (120, 100)
        expected = predictor(image)
        assert len(expected) == 5
        for one, garment in zip(found["garments"], expected, strict=True):
            own = garment.to_dict()
            assert one["category"] == own["category"]
            for name in ("score", "box", "landmarks", "embedding"):
                assert np.allclose(one[name], own[name], atol=1e-4), name
            assert one["mask_pixels"] is None  # the shape says it
            assert one["shape"] == outline(garment, np.ones(2))

    def test_of_large_photos_only_the_shapes_are_coarser(self, serving, photo, predictor):
        large = cv2.resize(photo[0], (1800, 1500))
        data = cv2.imencode(".png", large)[1].tobytes()
        found = serving().post("/predict", content=data, headers=PNG).json()
        assert (found["width"], found["height"]) == (1800, 1500)
        for one, garment in zip(found["garments"], predictor(large), strict=True):
            assert np.allclose(one["box"], garment.box, atol=0.02)
            assert np.allclose(one["embedding"], garment.embedding, atol=1e-4)
            assert np.allclose(np.array(one["landmarks"]), garment.landmarks, atol=2)
            rims, seen = np.concatenate(one["shape"]), np.argwhere(garment.mask)[:, ::-1]
            assert np.allclose(rims.min(axis=0), seen.min(axis=0), atol=4)
            assert np.allclose(rims.max(axis=0), seen.max(axis=0), atol=4)

    def test_the_outline_of_a_mask(self):
        mask = np.zeros((20, 30), bool)
        mask[2:5, 3:8] = True  # the smaller part
        mask[8:18, 10:25] = True
        mask[10:12, 14:16] = False  # a hole is filled
        mask[0, 29] = True  # a speck is left out
        garment = Garment(DEEPFASHION2.category(1), np.zeros(4), mask=mask)
        large, small = outline(garment, np.array([2.0, 10.0]))
        assert sorted(map(tuple, large)) == [(21, 85), (21, 175), (49, 85), (49, 175)]
        assert sorted(map(tuple, small)) == [(7, 25), (7, 45), (15, 25), (15, 45)]
        assert outline(Garment(garment.category, garment.box), np.ones(2)) is None

    def test_measures_are_those_of_the_command(self, serving, photo, predictor):
        from match_rcnn.inference.measures import measure, read_rules

        found = serving().post("/predict", content=photo[1], headers=PNG).json()["garments"]
        expected = [measure(garment, read_rules()) for garment in predictor(photo[0])]
        assert any(expected)
        for one, lengths in zip(found, expected, strict=True):
            assert [m["name"] for m in one["measures"]] == [m.name for m in lengths]
            pixels = [m["pixels"] for m in one["measures"]]
            assert np.allclose(pixels, [m.pixels for m in lengths], atol=0.1)
            assert all(len(m["lines"][0]) >= 2 for m in one["measures"])


class TestEmbed:
    def test_of_what_is_found(self, serving, photo, predictor):
        found = is_as_described(
            serving().post("/embed", content=photo[1], headers=PNG), "/embed", "post"
        )
        expected = [garment.embedding for garment in predictor(photo[0])]
        assert np.allclose([g["embedding"] for g in found["garments"]], expected, atol=1e-4)

    def test_of_boxes(self, serving, photo, predictor):
        address = "/embed?box=10,20,60,90&box=-5,-5,500,500&category=skirt"
        (first, second) = is_as_described(
            serving().post(address, content=photo[1], headers=PNG), "/embed", "post"
        )["garments"]
        assert second["box"] == [0, 0, 120, 100]  # as far as there is a photo
        kind = predictor.taxonomy.named("skirt")
        boxes = np.array([[10, 20, 60, 90], [0, 0, 120, 100]], np.float32)
        asked = [Garment(kind, box) for box in boxes]
        expected = GalleryModel(predictor).describe(photo[0], asked)
        assert first["category"] == second["category"] == "skirt"
        for one, garment in zip((first, second), expected, strict=True):
            assert np.allclose(one["embedding"], garment.embedding, atol=1e-5)

    def test_a_box_without_a_category_has_that_of_the_garment_below(
        self, serving, photo, predictor
    ):
        best = predictor(photo[0])[0]
        box = ",".join(map(str, best.box.tolist()))
        answer = serving().post(f"/embed?box={box}", content=photo[1], headers=PNG)
        (found,) = answer.json()["garments"]
        assert found["category"] == best.category.name

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ("box=1,2,3", "x1,y1,x2,y2"),
            ("box=1,2,3,nan", "x1,y1,x2,y2"),
            ("box=a,b,c,d", "x1,y1,x2,y2"),
            ("box=500,500,600,600", "no pixel"),
            ("box=50,50,40,40", "no pixel"),
            ("box=1,1,40,40&category=hat", "hat"),
            ("category=skirt", "without a box"),
        ],
    )
    def test_a_wrong_box(self, serving, photo, asked, words):
        is_refused(serving().post(f"/embed?{asked}", content=photo[1], headers=PNG), 400, words)


class TestSearch:
    def test_by_photo_as_the_command(self, serving, photo, predictor, gallery):
        client = serving(gallery)
        answer = client.post("/search?top=3", content=photo[1], headers=PNG)
        found = is_as_described(answer, "/search", "post")["results"]
        expected = search_photo(
            Gallery.open(gallery), GalleryModel(predictor), photo[0], top=3, group_by="product"
        )
        for one, result in zip(found, expected, strict=True):
            assert [hit["id"] for hit in one["hits"]] == [hit.item.id for hit in result.hits]
            assert one["garment"]["category"] == result.garment.category.name

    def test_by_the_embedding_of_a_garment(self, serving, photo, gallery):
        client = serving(gallery)
        garment = client.post("/predict", content=photo[1], headers=PNG).json()["garments"][1]
        asked = {"embedding": garment["embedding"], "top": 4}
        by_vector = is_as_described(client.post("/search", json=asked), "/search", "post")
        by_photo = client.post("/search?top=4", content=photo[1], headers=PNG).json()
        hits = by_photo["results"][1]["hits"]
        assert [h["id"] for h in by_vector["results"][0]["hits"]] == [h["id"] for h in hits]

    def test_by_item_which_is_not_its_own_result(self, serving, gallery):
        client, opened = serving(gallery), Gallery.open(gallery)
        name = "p1 & co.jpg#2"
        (expected,) = opened.search(opened.vectors([name]), 20)
        for group, count in (("none", 19), ("photo", 4)):
            asked = {"item": name, "group_by": group}
            hits = client.post("/search", json=asked).json()["results"][0]["hits"]
            assert name not in [hit["id"] for hit in hits]
            assert len(hits) == count
        assert hits[0]["id"] == next(hit.item.id for hit in expected if hit.item.id != name)

    def test_of_one_category(self, serving, gallery):
        asked = {"item": "p0 & co.jpg#0", "category": "skirt", "group_by": "none"}
        hits = serving(gallery).post("/search", json=asked).json()["results"][0]["hits"]
        assert {hit["id"] for hit in hits} == {f"p{n} & co.jpg#0" for n in (1, 2, 3)}

    @pytest.mark.parametrize(
        ("body", "status", "words"),
        [
            (b"{", 400, "no JSON"),
            (b"[" * 5000, 400, "no JSON"),
            (b"[]", 400, "either an embedding or an item"),
            (b"{}", 400, "either an embedding or an item"),
            (b'{"item": "a", "embedding": [1]}', 400, "either an embedding or an item"),
            (b'{"item": 3}', 400, "text"),
            (b'{"item": "it\' OR 1=1 --"}', 404, "no item"),
            (b'{"embedding": [1, 2]}', 400, "expected queries"),
            (b'{"embedding": "x"}', 400, "list of numbers"),
            (b'{"embedding": [[1], [2, 3]]}', 400, "lists of equal"),
            (b'{"embedding": [{"a": 1}]}', 400, "expected numbers"),
            (b'{"embedding": [1], "features": 7}', 400, "by name"),
            (b'{"embedding": [1], "features": {"x": "y"}}', 400, "expected numbers"),
            (b'{"item": "p0 & co.jpg#0", "top": 0}', 400, "top must be"),
            (b'{"item": "p0 & co.jpg#0", "top": 100000}', 400, "top must be"),
            (b'{"item": "p0 & co.jpg#0", "top": "x"}', 400, "top must be"),
            (b'{"item": "p0 & co.jpg#0", "category": "hat"}', 400, "hat"),
            (b'{"item": "p0 & co.jpg#0", "category": 7}', 400, "category"),
            (b'{"item": "p0 & co.jpg#0", "group_by": "shop"}', 400, "group_by"),
            (b'"' + b"x" * (2 << 20) + b'"', 413, "larger"),
        ],
    )
    def test_a_wrong_question(self, serving, gallery, body, status, words):
        client = serving(gallery)
        headers = {"content-type": "application/json"}
        is_refused(client.post("/search", content=body, headers=headers), status, words)

    def test_without_a_gallery(self, serving, photo):
        client = serving()
        is_refused(client.post("/search", json={"embedding": [1]}), 404, "no gallery")
        is_refused(client.post("/search", content=photo[1], headers=PNG), 404, "no gallery")
        is_refused(client.get("/items?id=x"), 404, "no gallery")


class TestItems:
    def test_one_comes_is_found_and_goes(self, serving, gallery, photo):
        client = serving(gallery)
        asked = {"id": "new/coat", "product": "coat-1", "box": "10,20,60,90", "category": "vest"}
        answer = client.post("/items", params=asked, content=photo[1], headers=PNG)
        assert is_as_described(answer, "/items", "post", 201) == {"added": ["new/coat#0"]}
        again = client.post("/items", params=asked, content=photo[1], headers=PNG)
        is_refused(again, 409, "already")
        address = {"id": "new/coat#0"}
        item = is_as_described(client.get("/items", params=address), "/items", "get")
        assert (item["category"], item["product"], item["photo"]) == ("vest", "coat-1", None)
        is_refused(client.get("/picture", params=address), 404, "photo")
        box = "/embed?box=10,20,60,90&category=vest"
        (own,) = client.post(box, content=photo[1], headers=PNG).json()["garments"]
        found = client.post("/search", json={"embedding": own["embedding"], "top": 1}).json()
        assert found["results"][0]["hits"][0]["id"] == "new/coat#0"
        removed = client.delete("/items", params=address)
        assert is_as_described(removed, "/items", "delete") == {"removed": ["new/coat#0"]}
        is_refused(client.delete("/items", params=address), 404, "no item")
        is_refused(client.get("/items", params=address), 404, "no item")

    def test_what_others_add_is_seen(self, serving, gallery):
        client = serving(gallery)
        assert client.get("/about").json()["gallery"]["items"] == 20
        Gallery.open(gallery).remove(["p0 & co.jpg#0"])
        assert client.get("/about").json()["gallery"]["items"] == 19

    def test_only_this_machine_changes_a_gallery_without_a_token(self, serving, gallery):
        client, item = serving(gallery), {"id": "p0 & co.jpg#0"}
        elsewhere = {"host": "shop.example"}  # a name that a page has made to mean this machine
        assert client.get("/about", headers=elsewhere).json()["changes"] is False
        is_refused(client.delete("/items", params=item, headers=elsewhere), 403, TOKEN)
        assert client.get("/about").json()["changes"] is True
        assert client.delete("/items", params=item).status_code == 200

    def test_with_a_token_only_who_has_it(self, serving, gallery, monkeypatch):
        monkeypatch.setenv(TOKEN, "secret")
        client, item = serving(gallery), {"id": "p0 & co.jpg#0"}
        is_refused(client.delete("/items", params=item), 401, "Authorization")
        wrong = {"authorization": "Bearer other"}
        is_refused(client.delete("/items", params=item, headers=wrong), 401, "Authorization")
        right = {"authorization": "Bearer secret", "host": "shop.example"}
        assert client.delete("/items", params=item, headers=right).status_code == 200

    def test_pictures(self, serving, gallery, catalogue):
        client = serving(gallery)
        name = "p3 & co.jpg#1"
        item = client.get("/items", params={"id": name}).json()
        assert item["photo"] == [80, 120]
        whole = client.get("/picture", params={"id": name, "whole": "1"})
        assert whole.headers["content-type"] == "image/jpeg"
        shown = cv2.imdecode(np.frombuffer(whole.content, np.uint8), cv2.IMREAD_COLOR)
        stored = cv2.imread(str(catalogue / "p3 & co.jpg"))
        assert np.abs(shown.astype(int) - stored).mean() < 5
        cut = client.get("/picture", params={"id": name}).content
        x1, y1, x2, y2 = item["box"]
        size = int(np.ceil(y2)) - int(y1), int(np.ceil(x2)) - int(x1)
        assert cv2.imdecode(np.frombuffer(cut, np.uint8), cv2.IMREAD_COLOR).shape[:2] == size
        is_refused(client.get("/picture"), 404, "no item")


def test_about_health_and_metrics(serving, gallery, photo):
    client = serving(gallery)
    about = is_as_described(client.get("/about"), "/about", "get")
    assert len(about["samples"]) == 6
    assert client.get(f"/samples/{about['samples'][0]}").content.startswith(b"\xff\xd8")
    is_as_described(client.get("/health"), "/health", "get")
    client.post("/predict", content=photo[1], headers=PNG)
    client.post("/predict", content=b"x", headers=PNG)
    client.get("/somewhere/<b>")
    text = client.get("/metrics").text
    assert 'match_rcnn_requests_total{path="/predict",status="200"} 1.0' in text
    assert 'match_rcnn_requests_total{path="/predict",status="415"} 1.0' in text
    assert 'match_rcnn_requests_total{path="other",status="404"} 1.0' in text
    assert "match_rcnn_batch_sum 1.0" in text
    assert "<b>" not in text


def test_the_description_has_every_route_and_no_other(serving):
    client = serving()
    routes = {r.path for r in client.app.routes if hasattr(r, "methods")}
    assert routes - {"/", "/openapi.json"} == set(openapi()["paths"])
    assert client.get("/openapi.json").json() == openapi()


def test_every_answer_has_a_strict_policy(serving):
    client = serving()
    for path in ("/", "/page/app.js", "/about", "/nowhere", "/predict"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert client.get(path).headers["x-content-type-options"] == "nosniff"


def test_the_page_loads_nothing_from_elsewhere(serving):
    client = serving()
    page = client.get("/").text
    assert not re.search(r"<script(?![^>]* src=)|style=|\son\w+=", page)  # nothing inline
    for name in re.findall(r"(?:src|href)=\"([^\"]*)\"", page):
        assert name.startswith("/")
        assert client.get(name).status_code == 200, name
    for name in ("app.js", "style.css"):
        assert "http" not in client.get(f"/page/{name}").text.replace("http://www.w3.org/", "")


def test_the_model_is_the_gallerys(gallery, model_file):
    model = find_model(gallery, None, None, [], 0.2)
    assert str(model_file) == model.cfg.MODEL.WEIGHTS
