"""The sample company 蔵前精機: the documents, people and questions of `make demo`."""
