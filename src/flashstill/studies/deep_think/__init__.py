"""Deep think to flash: a teacher's many attempts, verified, become one pass of a small student.

What a seed's directory holds:

    problems/       label, train and test problems, apart by construction and by check
    teacher/        a Hugging Face directory, where the teacher is trained from scratch
    attempts/       chains and verdicts: of the teacher on training and on test problems, of every student on test ones
    students/ARM/   Hugging Face directories;  training/ARM/ checkpoints while training, metrics.jsonl
    records.jsonl   the models, and QualityRecords: the teacher at N = 1, 4, 16, ... and the students
    result.json     figures, ledger
"""

from flashstill.studies.deep_think.run import BARS, run

__all__ = ["BARS", "run"]
