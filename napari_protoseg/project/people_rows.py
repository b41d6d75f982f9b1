"""The rows of the people who set pixels: a number each, which stands in the setters of a mask."""

from __future__ import annotations

import sqlite3

from napari_protoseg.project.records import FIRST_PERSON, MOST_PEOPLE, Origin


def select_people(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the setter that stands for each person, by name."""
    rows = connection.execute("SELECT name, number FROM people ORDER BY number")
    return {str(name): FIRST_PERSON + int(number) for name, number in rows}


def person_setter(connection: sqlite3.Connection, name: str) -> int:
    """Return the setter that stands for a person, who is entered where they are new.

    A project has numbers for 238 people. The pixels of any after them are a person's whose name
    only the journal knows.
    """
    people = select_people(connection)
    if name in people:
        return people[name]
    number = len(people) + 1
    if number > MOST_PEOPLE:
        return Origin.PERSON
    connection.execute("INSERT INTO people (number, name) VALUES (?, ?)", (number, name))
    return FIRST_PERSON + number
