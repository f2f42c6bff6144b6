"""Stems of a song, extended so that their sum is the extended mix; and albums of them, overnight.

album    folders → songs → stems, and where each goes
song     one song: one plan, one walk through all its stems at once
batch    many songs: workers, resume, report
"""
