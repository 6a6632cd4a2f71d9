"""Parts of the study of question answering: samples in memory, made-up shapes, captions."""
