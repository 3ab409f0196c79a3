"""A world that is played here and shown in browsers: `worldmodel serve`.

hall.py      sessions, and the one thread that plays them
session.py   one player's world, input and kept moments
protocol.py  what a browser may say, and how a frame is sent
outbox.py    the newest frame, never more than two on the way
app.py       the web application: page, socket, who is let in
running.py   the server
page/        what the browser loads
"""
