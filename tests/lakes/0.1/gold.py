def grade(rows):
    return [float(len(row['answer']) % 6) for row in rows]
