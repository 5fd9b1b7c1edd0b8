"""Long jobs, and a page that shows their progress.

pip install 'libbus[flask]' gunicorn
gunicorn --workers 2 app:app            # http://127.0.0.1:8000
"""

import subprocess
import sys
from pathlib import Path

from flask import Flask, redirect, render_template, request

from libbus.flask import Bus

JOB = Path(__file__).with_name("job.py")

app = Flask(__name__)
bus = Bus(app, name="long-job", allow=["job/#"])


@app.get("/")
def page():
    return render_template("jobs.html")


@app.post("/")
def start():
    job = subprocess.Popen([sys.executable, JOB], stdin=subprocess.PIPE, text=True)
    job.stdin.write(request.form["numbers"])
    job.stdin.close()
    return redirect("/")
