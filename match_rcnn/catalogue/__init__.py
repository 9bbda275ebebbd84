"""Photos into a gallery and out of it: what needs a model beside :mod:`match_rcnn.retrieval`."""
