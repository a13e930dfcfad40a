"""Testing machines and whole cells without servers, and the simulation that tests this project.

For users: :mod:`.alone` applies commands to one machine; :mod:`.cell` is a whole cell in memory with fake time;
:mod:`.linearizability` judges histories. For the project: start reading at :mod:`.simulation`.
"""
