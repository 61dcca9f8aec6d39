#!/usr/bin/env python3
"""How far llmgw.h's estimate of tokens is from a real tokenizer: tokens.py TOKENS ROOT FIXTURES

TOKENS is the program built from tokens.c. Runs under a Python that has litellm, whose package brings tiktoken's
o200k_base along, so that nothing is fetched. The estimate must be within 15 % on average (mean of the absolute
deviation over passages of some hundred bytes) for English, code, Chinese and JSON."""
import glob
import importlib.util
import json
import os
import re
import subprocess
import sys

BOUND = 0.15

# Written for this test: everyday, technical and formal Chinese.
CHINESE = [
    "今天早上我去市场买了一些新鲜的蔬菜和水果，准备晚上给家人做一顿丰盛的晚餐。天气很好，阳光明媚，路上的行人都露出了笑容。",
    "如果服务器在三十秒内没有返回结果，客户端会自动重新发送请求，最多尝试三次；超过次数以后，系统将记录错误并通知管理员。",
    "这座城市有着两千多年的历史，古老的城墙和现代化的高楼大厦并存，每年吸引着来自世界各地的数百万游客前来参观。",
    "请帮我把下面这段话翻译成英文，并且检查有没有语法错误。注意保持原文的语气，不要添加任何多余的解释。",
    "研究人员发现，经常锻炼身体的人睡眠质量明显更好，他们的注意力也更加集中，工作效率比不运动的人高出百分之二十。",
    "根据合同第五条的规定，甲方应当在收到货物之日起十五个工作日内支付全部款项，逾期付款的，应按日支付违约金。",
    "机器学习模型的训练需要大量的数据和计算资源。为了降低成本，我们可以使用迁移学习的方法，在已有模型的基础上进行微调。",
    "小时候，爷爷常常坐在院子里的大树下给我讲故事。夏天的晚上，满天的星星闪闪发光，蟋蟀在草丛里不停地唱歌。",
    "您的订单已经发货，预计明天下午送达。如需修改收货地址，请在今天晚上八点之前联系客服，电话号码在订单详情页面可以找到。",
    "数据库的索引可以大大提高查询速度，但是也会占用额外的存储空间，并且在插入和更新数据时带来一定的性能开销。",
    "春节是中国最重要的传统节日，家家户户都会贴春联、放鞭炮、吃饺子，孩子们还会收到长辈给的红包。",
    "我的护照快要过期了，请问在国外应该怎么办理续签手续？需要准备哪些材料，大概要多长时间才能拿到新的护照？",
]


def passages(text, size):
    """Pieces of whole lines of at least so many characters."""
    piece, out = "", []
    for line in text.splitlines(keepends=True):
        piece += line
        if len(piece) >= size:
            out.append(piece)
            piece = ""
    return out


def read(path):
    with open(path, encoding="utf-8", errors="strict") as file:
        return file.read()


def sets(root, fixtures):
    prose = [re.sub(r"\s+", " ", p) for p in re.split(r"\n\s*\n", read(os.path.join(root, "README.md")))]
    prose = [p for p in prose if len(p) > 200 and not p.startswith(("|", "```", "    ", "{"))]
    code = []
    for name in ("llmgw.h", "tests/fake_provider.c", "tests/conform/conform.py", "tests/check.sh"):
        code += passages(read(os.path.join(root, name)), 800)[::9]
    recorded = []
    for path in sorted(glob.glob(os.path.join(fixtures, "**", "*.json"), recursive=True)):
        try:
            text = read(path)
        except UnicodeDecodeError:
            continue
        if 200 < len(text) < 20000:
            recorded.append(text)
    return {"English": prose, "code": code, "Chinese": CHINESE, "JSON": recorded[:200]}


def main():
    program, root, fixtures = sys.argv[1:4]
    home = importlib.util.find_spec("litellm").submodule_search_locations[0]
    os.environ["TIKTOKEN_CACHE_DIR"] = os.path.join(home, "litellm_core_utils", "tokenizers")
    import tiktoken

    encoder = tiktoken.get_encoding("o200k_base")
    passed = failed = 0
    for name, texts in sets(root, fixtures).items():
        if not texts:
            print(f"SKIP tokens: no {name}")
            continue
        out = subprocess.run([program], input=json.dumps(texts), capture_output=True, text=True, check=True).stdout
        guesses = [int(line) for line in out.split()]
        real = [len(encoder.encode(text, disallowed_special=())) for text in texts]
        off = [abs(g - r) / r for g, r in zip(guesses, real)]
        mean, sums = sum(off) / len(off), sum(guesses) / sum(real)
        good = mean <= BOUND and len(guesses) == len(texts)
        passed, failed = passed + good, failed + (not good)
        print(f"{'ok  ' if good else 'FAIL'} {name:8} {len(texts):4} texts: off by {mean * 100:.1f} % on average, "
              f"{max(off) * 100:.0f} % at most; in all {sums:.2f} of {sum(real)} tokens")
    print(f"tokens: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
